// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

type program struct{ name, pkg string }

// builder builds programs of one module.
type builder struct {
	dir         string // of the module
	to          string // directory of the programs
	ldflags     string
	environ     []string
	every       time.Duration // between two lines of progress
	programs    []program
	out, errors io.Writer
}

// environ returns the environment of go build. Programs are static, and the caller's workspace and flags are ignored.
func environ(platform string) ([]string, error) {
	env := append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if platform != "" {
		goos, goarch, ok := strings.Cut(platform, "/")
		if !ok {
			return nil, fmt.Errorf("platform %q is not os/arch", platform)
		}
		env = append(env, "GOOS="+goos, "GOARCH="+goarch)
	}
	return env, nil
}

// flags of every go build here. The linker would strip debug information anyway, and writing it takes a compiler an
// eighth of its time.
var flags = []string{"-trimpath", "-buildvcs=false", "-gcflags=all=-dwarf=false"}

// work is the output of go list before a build.
type work struct {
	imports []string // packages that the programs import
	stale   int      // packages that are not in the build cache, without the programs
}

// list lists all packages that the programs need, and downloads missing modules.
func (b *builder) list(ctx context.Context) (work, error) {
	// Without EmbedFiles go list does not load them, and reports packages that embed files as stale.
	args := slices.Concat([]string{"list", "-deps", "-json=ImportPath,Standard,DepOnly,Stale,Imports,EmbedFiles"}, flags)
	for _, p := range b.programs {
		args = append(args, p.pkg)
	}
	cmd := b.command(ctx, args...)
	var stdout bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, b.errors
	if err := cmd.Run(); err != nil {
		return work{}, fmt.Errorf("go list: %w", err)
	}
	return readWork(&stdout)
}

func readWork(in io.Reader) (work, error) {
	var w work
	imports, standard := map[string]bool{}, map[string]bool{}
	for decoder := json.NewDecoder(in); ; {
		var p struct {
			ImportPath               string
			Standard, DepOnly, Stale bool
			Imports                  []string
		}
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return work{}, fmt.Errorf("go list: %w", err)
		}
		switch {
		case !p.DepOnly:
			for _, path := range p.Imports {
				imports[path] = true
			}
		case p.Stale:
			w.stale++
		}
		standard[p.ImportPath] = p.Standard
	}
	for path := range imports {
		if !standard[path] {
			w.imports = append(w.imports, path)
		}
	}
	slices.Sort(w.imports)
	return w, nil
}

func (b *builder) build(ctx context.Context) error {
	started := time.Now()
	w, err := b.list(ctx)
	if err != nil {
		return err
	}
	if w.stale > 0 {
		if err := b.compile(ctx, w); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(b.to, 0o755); err != nil {
		return err
	}
	if err := b.link(ctx); err != nil {
		return err
	}
	fmt.Fprintf(b.out, "built %s in %.1f s, %s compiled\n", b.names(), time.Since(started).Seconds(), packages(w.stale))
	return nil
}

// compile compiles what the programs import.
func (b *builder) compile(ctx context.Context, w work) error {
	cmd := b.command(ctx, slices.Concat([]string{"build", "-v"}, flags, w.imports)...)
	// Compilers are too short-lived for garbage collection: without it they take a sixth less time. Few reach the limit.
	cmd.Env = append(cmd.Env, "GOGC=off", "GOMEMLIMIT=1GiB")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	p := progress{of: b.names(), total: w.stale, every: b.every, out: b.out, errors: b.errors, now: time.Now}
	err = p.read(stderr)
	return errors.Join(cmd.Wait(), err)
}

// link links the programs, two at a time: one linker uses one and a half processors.
func (b *builder) link(ctx context.Context) error {
	fmt.Fprintf(b.out, "linking %s\n", b.names())
	errs := make([]error, len(b.programs))
	slots := make(chan struct{}, 2)
	var group sync.WaitGroup
	for i, p := range b.programs {
		group.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			ldflags := strings.TrimSpace("-s -w " + b.ldflags)
			cmd := b.command(ctx, slices.Concat([]string{"build"}, flags, []string{"-ldflags", ldflags, "-o", filepath.Join(b.to, p.name), p.pkg})...)
			if output, err := cmd.CombinedOutput(); err != nil {
				errs[i] = fmt.Errorf("build %s: %w\n%s", p.name, err, bytes.TrimSpace(output))
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

func (b *builder) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = b.dir, b.environ
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	return cmd
}

func (b *builder) names() string {
	var names []string
	for _, p := range b.programs {
		names = append(names, p.name)
	}
	return strings.Join(names, ", ")
}

// progress counts the packages that go build -v names, each when its compilation starts.
type progress struct {
	of          string
	done, total int
	every       time.Duration
	out, errors io.Writer
	now         func() time.Time
	shown       time.Time
}

// read reports progress periodically. A line that is not a package, such as an error, is passed on.
func (p *progress) read(lines io.Reader) error {
	scanner := bufio.NewScanner(lines)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		line := scanner.Text()
		if line == "" || strings.ContainsAny(line, " \t") {
			fmt.Fprintln(p.errors, line)
			continue
		}
		p.done++
		if now := p.now(); now.Sub(p.shown) >= p.every {
			p.shown = now
			// Packages may have left the cache since go list ran.
			fmt.Fprintf(p.out, "building %s of %s of %s: %s\n", grouped(p.done), packages(max(p.total, p.done)), p.of, line)
		}
	}
	return scanner.Err()
}

func packages(n int) string {
	if n == 1 {
		return "1 package"
	}
	return grouped(n) + " packages"
}

// grouped formats a number below a million with a comma at the thousands.
func grouped(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}
