// SPDX-License-Identifier: Apache-2.0

// Package arch checks what no compiler does: allowed imports, the required content of every file, and what the Helm chart
// renders.
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

	"github.com/itechsmart/operator/hack/programs"
)

const module = programs.Module

// root is the checkout, seen from this package.
var root = filepath.Join("..", "..")

type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

// packages lists the main module's packages, without tests.
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

// within reports whether a path of the module (without the module's name) is prefix or below it.
func within(path string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(prefix string) bool {
		return path == prefix || strings.HasPrefix(path, prefix+"/")
	})
}

// ofKind returns the packages of the programs of one kind.
func ofKind(t *testing.T, kind programs.Kind) []string {
	t.Helper()
	list, err := programs.List(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, p := range list {
		if p.Kind == kind {
			found = append(found, strings.TrimPrefix(p.Package, "./"))
		}
	}
	return found
}

// serviceConfig is the shared part of a service's configuration.
const serviceConfig = "workloads/config"

// allowed returns the packages of the module that the package at path may import directly; contracts are those between
// controllers and workloads.
func allowed(path string, contracts []string) []string {
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
		return append(controllerImports(product), contracts...)
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
	default: // hack, test: no restriction
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

// contracts returns the packages of workloads that controllers may import: configurations, and clients of services.
func contracts(t *testing.T) []string {
	t.Helper()
	out := []string{serviceConfig}
	for _, service := range ofKind(t, programs.Service) {
		out = append(out, service+"/config", service+"/client")
	}
	for _, worker := range ofKind(t, programs.Worker) {
		out = append(out, worker+"/config")
	}
	return out
}

func TestImports(t *testing.T) {
	contracts := contracts(t)
	for _, p := range packages(t) {
		path := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		may := allowed(path, contracts)
		if strings.HasSuffix(path, "test") {
			may = append(may, "test/kube") // test harnesses
		}
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

// TestAPIDependencies keeps the API modules light: importing a kind pulls in apimachinery and no client.
func TestAPIDependencies(t *testing.T) {
	refused := []string{"k8s.io/client-go", "k8s.io/apiserver", "sigs.k8s.io/controller-runtime/pkg/client", "sigs.k8s.io/controller-runtime/pkg/manager"}
	checkDeps(t, []string{"api"}, func(dep string) bool { return within(dep, refused...) })
}

// TestWorkersLinkNoKubernetes keeps the data plane free of the control plane.
func TestWorkersLinkNoKubernetes(t *testing.T) {
	checkDeps(t, ofKind(t, programs.Worker), func(dep string) bool {
		return within(dep, "k8s.io", module+"/api", module+"/controllers") || strings.HasPrefix(dep, "sigs.k8s.io/controller-runtime")
	})
}

// TestContractsLinkNoKubernetes keeps what both sides import free of either side.
func TestContractsLinkNoKubernetes(t *testing.T) {
	checkDeps(t, contracts(t), func(dep string) bool {
		return within(dep, "k8s.io", module+"/api", module+"/controllers") || strings.HasPrefix(dep, "sigs.k8s.io/controller-runtime")
	})
}

// TestBackendsStandAlone checks that a backend's client depends neither on Kubernetes nor on products.
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
