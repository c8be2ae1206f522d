// SPDX-License-Identifier: Apache-2.0

package arch

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestModulesShareVersions compares the modules whose programs `make up` builds. Where two need the same dependency in
// the same version, the build cache already has its packages: most of Helm and half of the operator are Kubernetes'
// libraries, which the node is built from.
func TestModulesShareVersions(t *testing.T) {
	first := map[string]string{} // version and module, by path
	for _, dir := range []string{".", "hack/localcluster", "hack/tools/helm"} {
		for path, version := range requirements(t, dir) {
			before, ok := first[path]
			if !ok {
				first[path] = version + " in " + dir
				continue
			}
			if !strings.HasPrefix(before, version+" ") {
				t.Errorf("%s is %s, and %s in %s: use the newer of the two in both (go get, go mod tidy)", path, before, version, dir)
			}
		}
	}
}

// requirements returns the versions in a go.mod file.
func requirements(t *testing.T, dir string) map[string]string {
	t.Helper()
	command := exec.Command("go", "mod", "edit", "-json")
	command.Dir = filepath.Join(root, dir)
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%s: go mod edit: %v", dir, err)
	}
	var file struct {
		Require []struct{ Path, Version string }
	}
	if err := json.Unmarshal(out, &file); err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, r := range file.Require {
		found[r.Path] = r.Version
	}
	if len(found) == 0 {
		t.Fatalf("%s/go.mod requires nothing", dir)
	}
	return found
}
