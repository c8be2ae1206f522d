// SPDX-License-Identifier: Apache-2.0

// Package build builds the programs of the local cluster and installs the Debian packages that its node needs.
package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/itechsmart/operator/hack/localcluster/internal/layout"
)

// program is one binary and the additional names of the multi-call binary.
type program struct {
	name  string
	links []string
	// envtest lists the links in envtest's assets directory.
	envtest []string
	// sources are the directories of the module that it is built from, besides go.mod and go.sum.
	sources []string
}

var programs = []program{
	{
		name:    "kube",
		links:   []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"},
		envtest: []string{"etcd", "kube-apiserver", "kubectl"},
		sources: []string{"cmd/kube"},
	},
	{name: "addons", sources: []string{"cmd/addons", "internal/provisioner"}},
	{name: "pause", sources: []string{"cmd/pause"}},
	{name: "localcluster", sources: []string{"cmd/localcluster", "internal"}},
}

func versionFlags() string {
	var flags []string
	parts := strings.Split(strings.TrimPrefix(layout.KubernetesVersion, "v"), ".")
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		flags = append(flags,
			"-X", pkg+".gitVersion="+layout.KubernetesVersion,
			"-X", pkg+".gitMajor="+parts[0], "-X", pkg+".gitMinor="+parts[1],
			"-X", pkg+".gitTreeState=clean")
	}
	return strings.Join(flags, " ")
}

// Programs builds programs that are missing or older than their sources, and creates the links.
func Programs(ctx context.Context, l layout.Layout, out io.Writer) error {
	if err := os.MkdirAll(l.Bin(""), 0o755); err != nil {
		return err
	}
	var old []program
	for _, p := range programs {
		newest, err := newestSource(l.Module(), append([]string{"go.mod", "go.sum"}, p.sources...))
		if err != nil {
			return err
		}
		if info, err := os.Stat(l.Bin(p.name)); err == nil && info.ModTime().After(newest) {
			fmt.Fprintf(out, "%-13s up to date\n", p.name)
		} else {
			old = append(old, p)
		}
	}
	if len(old) > 0 {
		if err := compile(ctx, l, old, out); err != nil {
			return err
		}
	}
	for _, p := range programs {
		for _, link := range p.links {
			if err := symlink(p.name, l.Bin(link)); err != nil {
				return err
			}
		}
	}
	return Envtest(l)
}

// compile builds programs with hack/gobuild, which prints its progress.
func compile(ctx context.Context, l layout.Layout, old []program, out io.Writer) error {
	// With the flags of hack/gobuild the standard library is not compiled again for others.
	args := []string{"run", "-trimpath", "-gcflags=all=-dwarf=false", "./hack/gobuild", "-C", l.Module(), "-o", l.Bin(""), "-ldflags", versionFlags()}
	now := time.Now()
	for _, p := range old {
		args = append(args, p.name+"=./cmd/"+p.name)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = l.Root, out, out
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build the node's programs: %w", err)
	}
	// go build does not touch an unchanged program, but newestSource compares times.
	for _, p := range old {
		if err := os.Chtimes(l.Bin(p.name), now, now); err != nil {
			return err
		}
	}
	return nil
}

// newestSource returns the time of the latest change to the files and directories of the module, without tests.
func newestSource(module string, sources []string) (time.Time, error) {
	var newest time.Time
	for _, source := range sources {
		err := filepath.WalkDir(filepath.Join(module, source), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasSuffix(path, "_test.go") {
				return err
			}
			info, err := d.Info()
			if err == nil && info.ModTime().After(newest) {
				newest = info.ModTime()
			}
			return err
		})
		if err != nil {
			return time.Time{}, err
		}
	}
	return newest, nil
}

// Envtest creates the assets directory of envtest: links to the multi-call binary, which is selected by its name.
func Envtest(l layout.Layout) error {
	if _, err := os.Stat(l.Bin("kube")); err != nil {
		return fmt.Errorf("%s is missing: run `localcluster build` first", l.Bin("kube"))
	}
	if err := os.MkdirAll(l.Envtest(), 0o755); err != nil {
		return err
	}
	for _, p := range programs {
		for _, link := range p.envtest {
			if err := symlink(filepath.Join("..", "bin", p.name), filepath.Join(l.Envtest(), link)); err != nil {
				return err
			}
		}
	}
	return nil
}

func symlink(to, link string) error {
	if now, err := os.Readlink(link); err == nil && now == to {
		return nil
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Symlink(to, link)
}
