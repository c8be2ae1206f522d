// SPDX-License-Identifier: Apache-2.0

// Package programs finds the programs of the operator. A program is a main package, and its location determines its kind:
//
//	./cmd/X                                      an image named X
//	./workloads/PRODUCT                          the service of a product: an image named PRODUCT
//	./workloads/PRODUCT/X, with a package config   a worker of the product: an image named PRODUCT-X
//	./workloads/PRODUCT/X, without one           a command-line tool named X, without an image
//
// Makefile, hack/images, hack/up and test/arch take their lists from here, so that a new program needs no other line.
package programs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
)

// Module is the path of the module that the programs belong to.
const Module = "github.com/itechsmart/operator"

// Kind of a program.
type Kind string

// The kinds of programs.
const (
	Manager Kind = "manager" // of ./cmd
	Service Kind = "service" // of a product
	Worker  Kind = "worker"  // of a product; it is not a Kubernetes client
	Tool    Kind = "tool"    // for users, on their machine
)

// Program is a main package.
type Program struct {
	Name    string // of the binary and of the image
	Package string // such as ./cmd/manager
	Kind    Kind
}

// HasImage reports whether the program runs in Pods.
func (p Program) HasImage() bool { return p.Kind != Tool }

// List returns the programs of the checkout at root, sorted by name.
func List(ctx context.Context, root string) ([]Program, error) {
	// -find skips the dependencies, and -e continues if a package does not compile.
	cmd := exec.CommandContext(ctx, "go", "list", "-e", "-find", "-json=ImportPath,Name", "./cmd/...", "./workloads/...")
	cmd.Dir = root
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("go list: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	mains, all := []string{}, map[string]bool{}
	for decoder := json.NewDecoder(&stdout); ; {
		var found struct{ ImportPath, Name string }
		err := decoder.Decode(&found)
		if errors.Is(err, io.EOF) {
			return classify(mains, all)
		}
		if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		path := strings.TrimPrefix(found.ImportPath, Module+"/")
		all[path] = true
		if found.Name == "main" {
			mains = append(mains, path)
		}
	}
}

// classify applies the rule to main packages; all contains every package. Paths are relative to the module.
func classify(mains []string, all map[string]bool) ([]Program, error) {
	var list []Program
	names := map[string]string{}
	for _, path := range mains {
		p, err := program(path, all[path+"/config"])
		if err != nil {
			return nil, err
		}
		if other, taken := names[p.Name]; taken {
			return nil, fmt.Errorf("the programs %s and %s would both be named %q", other, p.Package, p.Name)
		}
		names[p.Name] = p.Package
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b Program) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

func program(path string, hasConfig bool) (Program, error) {
	p := Program{Package: "./" + path}
	parts := strings.Split(path, "/")
	switch {
	case parts[0] == "cmd" && len(parts) == 2:
		p.Name, p.Kind = parts[1], Manager
	case parts[0] == "workloads" && len(parts) == 2:
		p.Name, p.Kind = parts[1], Service
	case parts[0] == "workloads" && len(parts) == 3 && hasConfig:
		p.Name, p.Kind = parts[1]+"-"+parts[2], Worker
	case parts[0] == "workloads" && len(parts) == 3:
		p.Name, p.Kind = parts[2], Tool
	default:
		return Program{}, fmt.Errorf("no rule names the program %s: it belongs in ./cmd/NAME, ./workloads/PRODUCT or ./workloads/PRODUCT/NAME", p.Package)
	}
	return p, nil
}
