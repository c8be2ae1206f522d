// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFind(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	deep := filepath.Join(root, "hack", "localcluster", "internal")
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "hack", "localcluster", "go.mod"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(root, link); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, root, start string
		fails             bool
	}{
		{name: "from below", start: deep},
		{name: "from itself", start: root},
		{name: "named", root: root, start: "/"},
		{name: "a link to the root must mean the same cluster", root: link, start: "/"},
		{name: "elsewhere", start: t.TempDir(), fails: true},
		{name: "named wrongly", root: deep, start: root, fails: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, err := Find(tt.root, tt.start)
			if (err != nil) != tt.fails {
				t.Fatalf("error %v, want one: %v", err, tt.fails)
			}
			if err == nil && l.Root != root {
				t.Errorf("root %q, want %q", l.Root, root)
			}
		})
	}
}
