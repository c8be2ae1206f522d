// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// ours returns an image for each program that has one by the rule of hack/programs.
func ours(ctx context.Context, root string) ([]Image, error) {
	cmd := exec.CommandContext(ctx, "go", append(slices.Clone(goRun), "./hack/programs/list", "-images")...)
	cmd.Dir, cmd.Env = root, append(cmd.Environ(), static...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("list the programs: %w: %s", err, tail(stderr.String(), 10))
	}
	var images []Image
	for lines := bufio.NewScanner(&stdout); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) != 3 {
			return nil, fmt.Errorf("list the programs: %q is not name, package and kind", lines.Text())
		}
		image := program(fields[0], fields[1])
		image.ours = true
		images = append(images, image)
	}
	return images, nil
}

// static is the environment of Go programs without C.
var static = []string{"CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off"}

// goRun runs a program with the flags of hack/gobuild, so that the standard library is not compiled with others.
var goRun = []string{"run", "-trimpath", "-gcflags=all=-dwarf=false"}

func (e *Env) programs() string { return filepath.Join(e.Cache, "programs") }

// program returns an image of only a static program of the main module. CA roots and time zones are in the binary.
func program(name, pkg string) Image {
	binary := func(env *Env) string { return filepath.Join(env.programs(), name) }
	return Image{
		Name: name, Ref: repository + name + ":dev", program: pkg,
		inputs: func(_ context.Context, env *Env) (string, error) { return fileHash(binary(env)) },
		fill: func(_ context.Context, env *Env, w *layerWriter) error {
			return errors.Join(w.copy(name, 0o755, binary(env)), w.dir("tmp", 0o1777, 0))
		},
		config: v1.Config{User: "65532:65532", Entrypoint: []string{"/" + name}, WorkingDir: "/"},
	}
}

// compile builds the programs of images together, so that shared packages are compiled once. Their version stays "dev",
// as in the tag: with the commit in it, every commit would change every image and restart all Pods, also those of
// unchanged programs.
func compile(ctx context.Context, env *Env, images []Image) error {
	args := append(slices.Clone(goRun), "./hack/gobuild", "-platform", "linux/amd64", "-o", env.programs())
	for _, image := range images {
		args = append(args, image.Name+"="+image.program)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = env.Root, append(cmd.Environ(), static...)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = env.Log, &output
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build the programs: %w:\n%s", err, tail(output.String(), 20))
	}
	return nil
}
