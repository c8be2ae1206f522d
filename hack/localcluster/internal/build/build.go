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

// program is one binary and the names under which the multi-call binary is installed besides.
type program struct {
	name  string
	links []string
	// envtest are the links in envtest's assets directory.
	envtest []string
	ldflags string
	// sources are the directories of the module that it is built from, besides go.mod and go.sum.
	sources []string
}

var programs = []program{
	{
		name:    "kube",
		links:   []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"},
		envtest: []string{"etcd", "kube-apiserver", "kubectl"},
		ldflags: versionFlags(),
		sources: []string{"cmd/kube"},
	},
	{name: "addons", ldflags: versionFlags(), sources: []string{"cmd/addons", "internal/provisioner"}},
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

// Programs builds what is missing or older than its sources, and makes the links.
func Programs(ctx context.Context, l layout.Layout, out io.Writer) error {
	if err := os.MkdirAll(l.Bin(""), 0o755); err != nil {
		return err
	}
	for _, p := range programs {
		start := time.Now()
		newest, err := newestSource(l.Module(), append([]string{"go.mod", "go.sum"}, p.sources...))
		if err != nil {
			return err
		}
		if info, err := os.Stat(l.Bin(p.name)); err == nil && info.ModTime().After(newest) {
			fmt.Fprintf(out, "%-13s up to date\n", p.name)
		} else {
			if err := compile(ctx, l, p, out); err != nil {
				return fmt.Errorf("build %s: %w", p.name, err)
			}
			fmt.Fprintf(out, "%-13s built in %.1fs\n", p.name, time.Since(start).Seconds())
		}
		for _, link := range p.links {
			if err := symlink(p.name, l.Bin(link)); err != nil {
				return err
			}
		}
	}
	return Envtest(l)
}

func compile(ctx context.Context, l layout.Layout, p program, out io.Writer) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", strings.TrimSpace("-s -w "+p.ldflags),
		"-o", l.Bin(p.name), "./cmd/"+p.name)
	cmd.Dir, cmd.Stdout, cmd.Stderr = l.Module(), out, out
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	return cmd.Run()
}

// newestSource returns the time of the latest change to the files and directories of the module, tests left out.
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

// Envtest makes the assets directory of envtest: links to the multi-call binary, which reads the name it is started by.
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
