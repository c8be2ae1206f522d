// SPDX-License-Identifier: Apache-2.0

package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func write(t *testing.T, name, text string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestLoad(t *testing.T) {
	w, unknown, err := Load(write(t, FileName, `{"slots":3,"newer":"canary","database":{"schema":"s","binding":{"any":"x"},"newer":{}},"queue":{"any":"x"}}`))
	if err != nil || w.Slots != 3 || w.Database.Schema != "s" || !slices.Equal(unknown, []string{"database.newer", "newer"}) {
		t.Errorf("%+v, unknown %q, %v", w, unknown, err)
	}
	for _, wrong := range []string{"", "[]", `{"slots":"3"}`, `{"slots":3}{}`, `{"slots":3}x`} {
		if w, _, err := Load(write(t, FileName, wrong)); err == nil || w != nil || !strings.Contains(err.Error(), FileName) {
			t.Errorf("%s: %+v, %v", wrong, w, err)
		}
	}
	if _, _, err := Load(t.TempDir()); err == nil {
		t.Error("a directory without the file was accepted")
	}
}

func TestLoadBindings(t *testing.T) {
	b, unknown, err := LoadBindings(write(t, BindingsName, `{"newer":1,"workflows":{"a":{"hmac":{"t":"a2V5"},"newer":1},"b":{"newer":1,"connections":{"c":{"host":"x"}}}}}`))
	if err != nil || string(b.Workflows["a"].HMAC["t"]) != "key" || b.Workflows["b"].Connections["c"]["host"] != "x" ||
		!slices.Equal(unknown, []string{"newer", "workflows.*.newer"}) {
		t.Errorf("%+v, unknown %q, %v", b, unknown, err)
	}
	if b, unknown, err = LoadBindings(t.TempDir()); err != nil || b.Shared || len(b.Workflows)+len(unknown) > 0 {
		t.Errorf("without a file: %+v, %q, %v", b, unknown, err)
	}
	if b, _, err := LoadBindings(write(t, BindingsName, `{"shared":1}`)); err == nil || b != nil {
		t.Errorf("wrong type: %+v, %v", b, err)
	}
}
