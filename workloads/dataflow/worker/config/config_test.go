// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

// TestLoadKeepsWhatItKnows: a newer manager's file has keys that an older worker does not know. They are returned, and no error.
func TestLoadKeepsWhatItKnows(t *testing.T) {
	path := filepath.Join(t.TempDir(), config.FileName)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"name": "a", "future": 1, "sources": [{"name": "in", "type": "queue", "later": true, "config": {"anything": 1}}]}`)
	p, unknown, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "a" || len(p.Sources) != 1 || p.Sources[0].Type != "queue" {
		t.Errorf("got %+v", p)
	}
	if want := []string{"future", "sources[*].later"}; !slices.Equal(unknown, want) {
		t.Errorf("unknown keys: got %v, want %v", unknown, want)
	}
	write(`{"name": 1}`)
	if _, _, err := config.Load(path); err == nil {
		t.Error("a name that is a number is accepted")
	}
}

// TestSpecWithoutConnections: what can be checked before connections are known is checked once, and connections by themselves.
func TestSpecWithoutConnections(t *testing.T) {
	p := valid()
	p.Connections = nil
	p.Sources[0].Type = "nothing"
	if found := config.ValidateSpec(p); len(found) != 1 || found[0].Path != "sources[0].type" {
		t.Errorf("specification: got %v", found)
	}
	if found := config.ValidateConnections(valid()); len(found) != 0 {
		t.Errorf("connections: got %v", found)
	}
	kafka := &config.Pipeline{
		Name: "a", Sources: []config.Source{{Name: "in", Type: "kafka", Config: []byte(`{"topic": "a"}`)}},
		Sinks: []config.Sink{{Name: "out", Type: "kafka", Connection: "x", Config: []byte(`{"topic": "b"}`)}},
	}
	if found := config.ValidateSpec(kafka); len(found) != 0 {
		t.Errorf("specification: got %v", found)
	}
	var paths []string
	for _, e := range config.ValidateConnections(kafka) {
		paths = append(paths, e.Path)
	}
	if want := []string{"sources[0].connection", "sinks[0].connection"}; !slices.Equal(paths, want) {
		t.Errorf("connections: got %v, want %v", paths, want)
	}
}
