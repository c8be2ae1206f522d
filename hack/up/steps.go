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
	lookAt string // when it fails
}

// up is the checkout that is brought up.
type up struct {
	root, bin, logs, kubeconfig string
	screen                      *screen
}

func newUp(root string) (*up, error) {
	local := filepath.Join(root, ".local")
	u := &up{
		root: root, bin: filepath.Join(local, "bin"), logs: filepath.Join(local, "up"),
		kubeconfig: filepath.Join(local, "kubeconfig"), screen: newScreen(os.Stdout),
	}
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
	command.Env = append(os.Environ(), "KUBECONFIG="+u.kubeconfig)
	output := &lastLine{to: file, show: u.screen.progress}
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

// build makes Kubernetes and the images. The two run one after the other: both fill the processors.
func (u *up) build(ctx context.Context) error {
	module := filepath.Join(u.root, "hack", "localcluster")
	err := u.run(ctx, "build-localcluster", module, "go", "build", "-o", filepath.Join(u.bin, "localcluster"), "./cmd/localcluster")
	if err != nil {
		return err
	}
	if err := u.run(ctx, "build-node", u.root, filepath.Join(u.bin, "localcluster"), "build"); err != nil {
		return err
	}
	return u.run(ctx, "build-images", filepath.Join(u.root, "hack", "images"), "go", "run", "./cmd/images", "build")
}

func (u *up) startNode(ctx context.Context) error {
	return u.run(ctx, "node", u.root, filepath.Join(u.bin, "localcluster"), "up")
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

// image is what the build notes of an image.
type image struct {
	Name, Ref, Digest string
}

// images reads the notes of the build.
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
			return nil, fmt.Errorf("%s: not the note of an image (%w)", u.relative(note), err)
		}
		images[i.Name] = i
	}
	return images, nil
}

// backendImages are the backends' names in the chart, and the images that serve for them here.
var backendImages = map[string]string{
	"postgresql": "postgres", "kafka": "kafka", "clickhouse": "clickhouse", "redis": "redis", "rabbitmq": "rabbitmq",
}

// productImages are those of the product services and their workers, which have the same names in the chart.
var productImages = []string{"vault", "workflow", "workflow-worker"}

// installOperator installs the chart with the images of this checkout.
func (u *up) installOperator(ctx context.Context) error {
	images, err := u.images()
	if err != nil {
		return err
	}
	values := map[string]any{"podAnnotations": map[string]string{}}
	missing := func(name string) error { return fmt.Errorf("image %s was not built", name) }
	split := func(name string) (map[string]any, error) {
		i, ok := images[name]
		at := strings.LastIndex(i.Ref, ":")
		if !ok || at < 0 {
			return nil, missing(name)
		}
		return map[string]any{"repository": i.Ref[:at], "tag": i.Ref[at+1:]}, nil
	}
	manager, err := split("manager")
	if err != nil {
		return err
	}
	worker, err := split("dataflow-worker")
	if err != nil {
		return err
	}
	backends := map[string]string{}
	for backend, name := range backendImages {
		if _, ok := images[name]; !ok {
			return missing(name)
		}
		backends[backend] = images[name].Ref
	}
	products := map[string]any{}
	for _, name := range productImages {
		product, err := split(name)
		if err != nil {
			return err
		}
		products[name] = map[string]any{"image": product}
	}
	values["image"], values["worker"], values["backends"] = manager, map[string]any{"image": worker}, map[string]any{"images": backends}
	values["products"] = products
	// The tag stays when the image changes; the digest makes the Pod change with it.
	values["podAnnotations"] = map[string]string{"itechsmart.dev/image": images["manager"].Digest}
	data, err := json.MarshalIndent(values, "", "  ")
	if err != nil {
		return err
	}
	file := filepath.Join(u.logs, "values.json")
	if err := os.WriteFile(file, data, 0o644); err != nil {
		return err
	}
	if err := u.clearRelease(ctx); err != nil {
		return err
	}
	return u.run(ctx, "install", u.root, filepath.Join(u.bin, "helm"), "upgrade", "--install", release, "charts/itechsmart",
		"--namespace", operatorNamespace, "--create-namespace", "--values", file, "--wait", "--timeout", "5m")
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

// kubectlLine is a command for people.
func (u *up) kubectlLine(args ...string) string {
	return "KUBECONFIG=.local/kubeconfig .local/bin/kubectl " + strings.Join(args, " ")
}
