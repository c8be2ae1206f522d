// SPDX-License-Identifier: Apache-2.0

package process

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	const tail = " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20 21"
	tests := []struct {
		name, stat string
		want       uint64
		fails      bool
	}{
		{name: "plain", stat: "7 (etcd)" + tail, want: 4242},
		{name: "command that looks like fields", stat: "7 (a) S 1 (b c)" + tail, want: 4242},
		{name: "no command", stat: "7", fails: true},
		{name: "cut short", stat: "7 (etcd) S 1 2", fails: true},
		{name: "not a number", stat: "7 (etcd) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 x 20", fails: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			state, got, err := ParseStat(tt.stat)
			if (err != nil) != tt.fails {
				t.Fatalf("error %v, want one: %v", err, tt.fails)
			}
			if err == nil && (got != tt.want || state != 'S') {
				t.Errorf("got %c %d, want S %d", state, got, tt.want)
			}
		})
	}
}

func TestLifecycle(t *testing.T) {
	dir := t.TempDir()
	spec := Spec{Path: "/bin/sleep", Args: []string{"sleep", "600"}, Log: filepath.Join(dir, "log")}
	r, err := Start(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Kill(t.Context()) })
	file := filepath.Join(dir, "record")
	if err := r.Save(file); err != nil {
		t.Fatal(err)
	}
	loaded := Load(file)
	if !loaded.Alive() {
		t.Fatal("a process that was just started is not recognised")
	}
	other := loaded
	other.StartTicks++
	if other.Alive() {
		t.Error("a process with another start time was mistaken for ours")
	}
	if err := other.Kill(t.Context()); err != nil || !loaded.Alive() {
		t.Errorf("killing a record of another start time: %v, process alive: %v", err, loaded.Alive())
	}
	rebooted := loaded
	rebooted.BootID = "another boot"
	if rebooted.Alive() {
		t.Error("a process of another boot was mistaken for ours")
	}
	if err := loaded.Stop(t.Context(), 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if loaded.Alive() {
		t.Error("still alive after Stop")
	}
}

func TestLoadMissingOrBroken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "record")
	if Load(file).Alive() {
		t.Error("a missing record is alive")
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if Load(file).Alive() {
		t.Error("a broken record is alive")
	}
}
