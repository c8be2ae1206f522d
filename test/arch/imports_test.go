// SPDX-License-Identifier: Apache-2.0

// Package arch checks what no compiler does: who may import what, what every
// file must hold, and what the Helm chart renders.
package arch

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/itechsmart/operator"

// root is the checkout, seen from this package.
var root = filepath.Join("..", "..")

type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

// packages lists the main module's packages, tests left out.
func packages(t *testing.T) []pkg {
	t.Helper()
	command := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", "./...")
	command.Dir = root
	var stderr strings.Builder
	command.Stderr = &stderr
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	var list []pkg
	decoder := json.NewDecoder(out)
	for {
		var p pkg
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	if err := command.Wait(); err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	return list
}

// within tells whether a path of the module (without the module's name) is prefix or below it.
func within(path string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(prefix string) bool {
		return path == prefix || strings.HasPrefix(path, prefix+"/")
	})
}

// workers are the programs that are no Kubernetes clients, each with its config.
var workers = []string{"workloads/dataflow/worker", "workloads/workflow/worker"}

// serviceConfig is what a Platform's controller tells a product service.
const serviceConfig = "workloads/config"

// allowed returns which packages of the module the package at path may import directly.
func allowed(path string) []string {
	parts := strings.Split(path, "/")
	at := func(i int) string {
		if i < len(parts) {
			return parts[i]
		}
		return ""
	}
	product := at(1)
	switch at(0) {
	case "api":
		return []string{"api/common", "api/" + product}
	case "controllers":
		return append(controllerImports(product), workerConfigs()...)
	case "cmd":
		return []string{"api", "controllers", path}
	case "internal":
		return []string{"internal/backend"}
	case "workloads":
		switch product {
		case "config":
			return []string{}
		case "internal":
			return []string{"workloads/internal", serviceConfig}
		}
		return []string{"api/" + product, "api/common", "workloads/internal", serviceConfig, "internal/backend", "workloads/" + product}
	default: // hack, test: they see everything
		return []string{""}
	}
}

func controllerImports(product string) []string {
	imports := []string{"api", "controllers/internal", "internal/backend"}
	switch product {
	case "": // the list of all controllers
		return append(imports, "controllers")
	case "internal":
		return imports
	default:
		return append(imports, "controllers/"+product)
	}
}

func workerConfigs() []string {
	out := []string{serviceConfig}
	for _, worker := range workers {
		out = append(out, worker+"/config")
	}
	return out
}

func TestImports(t *testing.T) {
	for _, p := range packages(t) {
		path := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		may := allowed(path)
		if slices.Contains(may, "") {
			continue
		}
		for _, imported := range p.Imports {
			target, ours := strings.CutPrefix(imported, module+"/")
			if ours && !within(target, may...) {
				t.Errorf("%s imports %s; it may import %s", path, target, strings.Join(may, ", "))
			}
		}
	}
}

// TestAPIDependencies keeps the API modules light: whoever imports a kind gets apimachinery and no client.
func TestAPIDependencies(t *testing.T) {
	refused := []string{"k8s.io/client-go", "k8s.io/apiserver", "sigs.k8s.io/controller-runtime/pkg/client", "sigs.k8s.io/controller-runtime/pkg/manager"}
	checkDeps(t, []string{"api"}, func(dep string) bool { return within(dep, refused...) })
}

// TestWorkersLinkNoKubernetes keeps the data plane free of the control plane.
func TestWorkersLinkNoKubernetes(t *testing.T) {
	checkDeps(t, workers, func(dep string) bool {
		return within(dep, "k8s.io", module+"/api", module+"/controllers") || strings.HasPrefix(dep, "sigs.k8s.io/controller-runtime")
	})
}

// TestBackendsStandAlone: a backend's client knows neither Kubernetes nor products.
func TestBackendsStandAlone(t *testing.T) {
	checkDeps(t, []string{"internal/backend"}, func(dep string) bool {
		return within(dep, "k8s.io", module+"/api", module+"/controllers", module+"/workloads")
	})
}

func checkDeps(t *testing.T, paths []string, refused func(dep string) bool) {
	t.Helper()
	found := 0
	for _, p := range packages(t) {
		path := strings.TrimPrefix(p.ImportPath, module+"/")
		if !within(path, paths...) {
			continue
		}
		found++
		for _, dep := range p.Deps {
			if refused(dep) {
				t.Errorf("%s links %s", path, dep)
			}
		}
	}
	if found == 0 {
		t.Fatalf("no package below %s", strings.Join(paths, ", "))
	}
}
