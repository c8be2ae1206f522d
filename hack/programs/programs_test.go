// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// tree returns a module with the operator's name and one file in each package.
func tree(t *testing.T, packages map[string]string) string {
	t.Helper()
	root := t.TempDir()
	files := map[string]string{"go.mod": "module " + Module + "\n\ngo 1.26\n"}
	for path, source := range packages {
		files[filepath.Join(path, "x.go")] = source
	}
	for name, content := range files {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestList(t *testing.T) {
	const main = "package main\n\nfunc main() {}\n"
	root := tree(t, map[string]string{
		"cmd/manager": main, "workloads/config": "package config\n",
		"workloads/ledger": "package main\n\nimport _ \"example.com/missing\"\n", "workloads/ledger/config": "package config\n",
		"workloads/ledger/signer": main, "workloads/ledger/signer/config": "package config\n",
		"workloads/ledger/ledgerctl": main, "workloads/ledger/ledgerctl/internal/cli": "package cli\n",
		"hack/up": main,
	})
	got, err := List(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	want := []Program{
		{"ledger", "./workloads/ledger", Service}, {"ledger-signer", "./workloads/ledger/signer", Worker},
		{"ledgerctl", "./workloads/ledger/ledgerctl", Tool}, {"manager", "./cmd/manager", Manager},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, p := range got {
		if p.HasImage() != (p.Name != "ledgerctl") {
			t.Errorf("%s: image %t", p.Name, p.HasImage())
		}
	}
}

func TestListRefuses(t *testing.T) {
	const main = "package main\n\nfunc main() {}\n"
	for name, c := range map[string]struct {
		packages map[string]string
		want     string
	}{
		"too deep":          {map[string]string{"cmd/manager": main, "workloads/ledger/signer/probe": main}, "./workloads/ledger/signer/probe"},
		"two with one name": {map[string]string{"cmd/ledger": main, "workloads/ledger": main}, "both be named \"ledger\""},
	} {
		t.Run(name, func(t *testing.T) {
			root := tree(t, c.packages)
			if got, err := List(t.Context(), root); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, %v; want an error containing %s", got, err, c.want)
			}
		})
	}
}

// TestOurs checks the rule on this checkout: the chart's and the manager's defaults use these names.
func TestOurs(t *testing.T) {
	list, err := List(t.Context(), filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	found := map[Kind]int{}
	for _, p := range list {
		found[p.Kind]++
	}
	if found[Manager] != 1 || found[Service] == 0 || found[Worker] == 0 || found[Tool] == 0 {
		t.Errorf("got %v; want one manager, and services, workers and tools", list)
	}
}
