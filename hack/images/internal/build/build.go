// SPDX-License-Identifier: Apache-2.0

// Package build makes the images and the native servers.
package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sync/errgroup"
)

// sources is this package itself: with another recipe the same inputs make other images.
//
//go:embed *.go
var sources embed.FS

// recipe returns the hash of the sources, without the tests.
func recipe() (string, error) {
	h := sha256.New()
	err := fs.WalkDir(sources, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasSuffix(name, "_test.go") {
			return err
		}
		content, err := sources.ReadFile(name)
		fmt.Fprintf(h, "%s %d\n%s", name, len(content), content)
		return err
	})
	return hex.EncodeToString(h.Sum(nil)), err
}

// Env has the paths of a build. All are absolute.
type Env struct {
	Root    string // of the repository
	Out     string // the tarballs
	Servers string // the native servers
	Cache   string // downloads and programs, kept between runs
	Temp    string // emptied after a run
	Log     io.Writer

	kafka, clickhouse sync.Mutex // over the native servers' files
}

// NewEnv creates the folders.
func NewEnv(root, out string, log io.Writer) (*Env, error) {
	local := filepath.Join(root, ".local")
	env := &Env{Root: root, Out: out, Servers: filepath.Join(local, "servers"), Cache: filepath.Join(local, "images", "cache"), Log: log}
	for _, dir := range []string{env.Out, env.Servers, env.Cache} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	temp, err := os.MkdirTemp(env.Cache, "run-")
	if err != nil {
		return nil, err
	}
	env.Temp = temp
	// mmdebstrap may run as another user.
	return env, os.Chmod(temp, 0o1777) //nolint:gosec // G302: like /tmp
}

// Close removes what the run leaves behind.
func (e *Env) Close() error { return os.RemoveAll(e.Temp) }

// run runs a command; its output is shown only if it fails.
func (e *Env) run(ctx context.Context, dir string, environ []string, command string, args ...string) error {
	cmd := exec.CommandContext(ctx, command, args...)
	cmd.Dir = dir
	cmd.Env = append(cmd.Environ(), environ...)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w:\n%s", filepath.Base(command), err, tail(output.String(), 20))
	}
	return nil
}

// Image is one image and how to make it.
type Image struct {
	Name string // of the tarball
	Ref  string // that the tarball registers
	// inputs prepares what the image is built from and returns a description of it; equal texts mean equal images.
	inputs func(ctx context.Context, env *Env) (string, error)
	// fill writes the one layer.
	fill   func(ctx context.Context, env *Env, w *layerWriter) error
	config v1.Config
	// program is the package of our own program that must be compiled first, or empty.
	program string
	ours    bool // a program of the operator
}

// Build writes the tarballs of images, at most jobs at a time; one that fails does not prevent the others. Results are in
// the order of images, those that failed without a name.
func Build(ctx context.Context, env *Env, images []Image, force bool, jobs int) ([]Result, []error) {
	results, errs := make([]Result, len(images)), make([]error, len(images))
	write := func(wanted func(Image) bool) {
		var group errgroup.Group
		group.SetLimit(jobs)
		for i, image := range images {
			if wanted(image) {
				group.Go(func() error {
					results[i], errs[i] = image.Build(ctx, env, force)
					return nil
				})
			}
		}
		_ = group.Wait()
	}
	isProgram := func(i Image) bool { return i.program != "" }
	// Servers wait for downloads, programs for the processor: they are built concurrently.
	var servers errgroup.Group
	servers.Go(func() error {
		write(func(i Image) bool { return !isProgram(i) })
		return nil
	})
	var programs []Image
	for _, image := range images {
		if isProgram(image) {
			programs = append(programs, image)
		}
	}
	if len(programs) > 0 {
		if err := compile(ctx, env, programs); err != nil {
			errs = append(errs, err)
		} else {
			write(isProgram)
		}
	}
	_ = servers.Wait()
	return results, errs
}

// Result of building an image.
type Result struct {
	Name   string        `json:"name"`
	Ref    string        `json:"ref"`
	Inputs string        `json:"inputs"` // hash
	Digest string        `json:"digest"` // of the manifest
	Size   int64         `json:"size"`   // of the tarball in bytes
	Took   time.Duration `json:"-"`
	Kept   bool          `json:"-"` // the tarball already existed
}

// Build writes an image's tarball, unless one of the same inputs exists.
func (i Image) Build(ctx context.Context, env *Env, force bool) (Result, error) {
	started := time.Now()
	inputs, err := i.hash(ctx, env)
	if err != nil {
		return Result{}, fmt.Errorf("%s: %w", i.Name, err)
	}
	file, record := filepath.Join(env.Out, i.Name+".tar"), filepath.Join(env.Out, i.Name+".json")
	if last, err := readRecord(record); err == nil && !force && last.Inputs == inputs {
		if info, err := os.Stat(file); err == nil && info.Size() == last.Size {
			last.Kept, last.Took = true, time.Since(started)
			return last, nil
		}
	}
	result, err := i.write(ctx, env, file)
	if err != nil {
		return Result{}, fmt.Errorf("%s: %w", i.Name, err)
	}
	result.Inputs = inputs
	content, err := json.MarshalIndent(result, "", "  ")
	if err != nil {
		return Result{}, err
	}
	result.Took = time.Since(started)
	return result, os.WriteFile(record, append(content, '\n'), 0o644) //nolint:gosec // G306: for everybody
}

func (i Image) hash(ctx context.Context, env *Env) (string, error) {
	inputs, err := i.inputs(ctx, env)
	if err != nil {
		return "", err
	}
	config, err := json.Marshal(i.config)
	if err != nil {
		return "", err
	}
	code, err := recipe()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%s\n%s\n", code, i.Ref, config, inputs))
	return hex.EncodeToString(sum[:]), nil
}

func readRecord(file string) (Result, error) {
	var r Result
	content, err := os.ReadFile(file)
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(content, &r)
}

// write writes the image and its tarball.
func (i Image) write(ctx context.Context, env *Env, file string) (Result, error) {
	w, err := newLayer(env.Temp)
	if err != nil {
		return Result{}, err
	}
	if err := i.fill(ctx, env, w); err != nil {
		w.abort()
		return Result{}, err
	}
	content, err := w.close()
	if err != nil {
		return Result{}, err
	}
	defer os.Remove(content.file)
	img, err := mutate.AppendLayers(empty.Image, content)
	if err != nil {
		return Result{}, err
	}
	base, err := img.ConfigFile()
	if err != nil {
		return Result{}, err
	}
	base = base.DeepCopy()
	base.OS, base.Architecture, base.Config, base.Created = "linux", "amd64", i.config, v1.Time{Time: epoch}
	if img, err = mutate.ConfigFile(img, base); err != nil {
		return Result{}, err
	}
	tag, err := name.NewTag(i.Ref)
	if err != nil {
		return Result{}, err
	}
	sum, err := img.Digest()
	if err != nil {
		return Result{}, err
	}
	// A reader never sees a partial tarball.
	part := file + ".part"
	if err := errors.Join(tarball.WriteToFile(part, tag, img), os.Rename(part, file)); err != nil {
		return Result{}, err
	}
	info, err := os.Stat(file)
	if err != nil {
		return Result{}, err
	}
	return Result{Name: i.Name, Ref: i.Ref, Digest: sum.String(), Size: info.Size()}, nil
}
