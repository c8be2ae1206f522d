// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	operatorNamespace = "itechsmart-system"
	release           = "itechsmart"
	namespace         = "quickstart"
)

// step is one part of the way up.
type step struct {
	title  string
	run    func(ctx context.Context) error
	lookAt string // if it fails
}

// up is the checkout that is brought up.
type up struct {
	root, bin, logs, kubeconfig string
	screen                      *screen
	show                        func(text string) // progress of the step, or of one of its tasks
}

func newUp(root string) (*up, error) {
	local := filepath.Join(root, ".local")
	u := &up{
		root: root, bin: filepath.Join(local, "bin"), logs: filepath.Join(local, "up"),
		kubeconfig: filepath.Join(local, "kubeconfig"), screen: newScreen(os.Stdout),
	}
	u.show = u.screen.progress
	return u, errors.Join(os.MkdirAll(u.logs, 0o755), os.MkdirAll(u.bin, 0o755))
}

func (u *up) step(ctx context.Context, number string, s step) error {
	u.screen.begin(number + " " + s.title)
	err := s.run(ctx)
	u.screen.end(err)
	return err
}

// run runs a program whose output goes into a log; its latest line is shown as progress.
func (u *up) run(ctx context.Context, log, dir, name string, args ...string) error {
	path := filepath.Join(u.logs, log+".log")
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	command := exec.CommandContext(ctx, name, args...)
	command.Dir = dir
	command.Env = append(os.Environ(), "KUBECONFIG="+u.kubeconfig, "GOBUILD_EVERY=1s")
	output := &lastLine{to: file, show: u.show}
	command.Stdout, command.Stderr = output, output
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = time.Minute
	if err := command.Run(); err != nil {
		return fmt.Errorf("%s: %w; the end of %s:\n%s", filepath.Base(name), err, u.relative(path), tail(path, 15))
	}
	return nil
}

func (u *up) relative(path string) string {
	if short, err := filepath.Rel(u.root, path); err == nil {
		return short
	}
	return path
}

func tail(path string, lines int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return "    " + strings.Join(all[max(0, len(all)-lines):], "\n    ")
}

func (u *up) loadImages(ctx context.Context) error {
	images, err := u.images()
	if err != nil {
		return err
	}
	args := []string{"load"}
	for _, image := range images {
		args = append(args, filepath.Join(u.root, ".local", "images", image.Name+".tar"))
	}
	return u.run(ctx, "load", u.root, filepath.Join(u.bin, "localcluster"), args...)
}

// image is the build's record of an image.
type image struct {
	Name, Ref, Digest string
}

// images reads the records of the build.
func (u *up) images() (map[string]image, error) {
	notes, err := filepath.Glob(filepath.Join(u.root, ".local", "images", "*.json"))
	if err != nil {
		return nil, err
	}
	images := map[string]image{}
	for _, note := range notes {
		data, err := os.ReadFile(note)
		if err != nil {
			return nil, err
		}
		var i image
		if err := json.Unmarshal(data, &i); err != nil || i.Ref == "" {
			return nil, fmt.Errorf("%s: not the record of an image (%w)", u.relative(note), err)
		}
		images[i.Name] = i
	}
	return images, nil
}

// kubectl runs kubectl and returns its output.
func (u *up) kubectl(ctx context.Context, args ...string) ([]byte, error) {
	command := exec.CommandContext(ctx, filepath.Join(u.bin, "kubectl"), append([]string{"--kubeconfig", u.kubeconfig}, args...)...)
	command.Dir = u.root
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}

// kubectlLine returns a command for people.
func (u *up) kubectlLine(args ...string) string {
	return "KUBECONFIG=.local/kubeconfig .local/bin/kubectl " + strings.Join(args, " ")
}
