// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func write(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A folder without a group, such as that of shared types, registers nothing.
func TestGroups(t *testing.T) {
	root := t.TempDir()
	if got, err := groups(root); err == nil {
		t.Errorf("an empty module has the groups %v", got)
	}
	for _, file := range []string{"beta/v1alpha1/groupversion_info.go", "alpha/v1alpha1/groupversion_info.go", "shared/v1alpha1/types.go"} {
		write(t, filepath.Join(root, "api", file))
	}
	if got, err := groups(root); err != nil || !slices.Equal(got, []string{"alpha", "beta"}) {
		t.Errorf("groups are %v, %v", got, err)
	}
}

func TestWrittenFileIsCurrent(t *testing.T) {
	root := filepath.Join("..", "..")
	want := filepath.Join(t.TempDir(), "groups.go")
	if err := run(root, "ctrltest", want); err != nil {
		t.Fatal(err)
	}
	made, err := os.ReadFile(want)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile(filepath.Join(root, "controllers", "internal", "ctrltest", "zz_generated.groups.go"))
	if err != nil {
		t.Fatal(err)
	}
	if string(kept) != string(made) {
		t.Errorf("zz_generated.groups.go is stale: run make generate. It should be:\n%s", made)
	}
}
