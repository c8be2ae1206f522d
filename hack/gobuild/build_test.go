// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestReadWork(t *testing.T) {
	const list = `
{"ImportPath": "fmt", "Standard": true, "DepOnly": true}
{"ImportPath": "net", "Standard": true, "DepOnly": true, "Stale": true}
{"ImportPath": "example.com/b", "DepOnly": true, "Stale": true, "Imports": ["net", "example.com/c"]}
{"ImportPath": "example.com/a", "DepOnly": true, "Imports": ["fmt"]}
{"ImportPath": "example.com/one", "Stale": true, "Imports": ["fmt", "example.com/b", "example.com/a"]}
{"ImportPath": "example.com/two", "Stale": true, "Imports": ["example.com/a"]}`
	got, err := readWork(strings.NewReader(list))
	if err != nil {
		t.Fatal(err)
	}
	if want := (work{imports: []string{"example.com/a", "example.com/b"}, stale: 2}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if _, err := readWork(strings.NewReader(`{"ImportPath"`)); err == nil {
		t.Error("half of an output was accepted")
	}
}

func TestProgress(t *testing.T) {
	var out, errs bytes.Buffer
	clock := time.Unix(0, 0)
	p := progress{of: "kube", total: 1930, done: 1230, every: time.Second, out: &out, errors: &errs, now: func() time.Time {
		clock = clock.Add(400 * time.Millisecond)
		return clock
	}}
	lines := "k8s.io/a\nk8s.io/b\n# k8s.io/b\nb.go:1:1: syntax error\nk8s.io/c\nk8s.io/d\n"
	if err := p.read(strings.NewReader(lines)); err != nil {
		t.Fatal(err)
	}
	if want := "building 1,231 of 1,930 packages of kube: k8s.io/a\nbuilding 1,234 of 1,930 packages of kube: k8s.io/d\n"; out.String() != want {
		t.Errorf("shown %q, want %q", out.String(), want)
	}
	if want := "# k8s.io/b\nb.go:1:1: syntax error\n"; errs.String() != want {
		t.Errorf("errors %q, want %q", errs.String(), want)
	}
}

// TestBuild builds two programs that share a package, finds nothing to do the second time, and reports an error.
func TestBuild(t *testing.T) {
	dir, to := t.TempDir(), t.TempDir()
	t.Setenv("GOBUILD_EVERY", "0s")
	write := func(name, content string) {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// The text makes the packages new to the build cache in every run.
	text := t.TempDir()
	write("go.mod", "module example.com/m\n\ngo 1.26\n")
	write("shared/shared.go", "package shared\n\nconst Text = `"+text+"`\n")
	for _, name := range []string{"one", "two"} {
		write(name+"/main.go", "package main\n\nimport \"example.com/m/shared\"\n\nvar version = \"dev\"\n\nfunc main() { println(\""+name+"\", version, shared.Text) }\n")
	}
	build := func() (string, string, error) {
		var out, errs bytes.Buffer
		env, err := environ("")
		if err != nil {
			t.Fatal(err)
		}
		b := builder{dir: dir, to: to, ldflags: "-X main.version=v1.2.3", environ: env, programs: []program{{"first", "./one"}, {"second", "./two"}}, out: &out, errors: &errs}
		err = b.build(t.Context())
		return out.String(), errs.String(), err
	}
	out, errs, err := build()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, errs)
	}
	if !strings.Contains(out, "building 1 of 1 package of first, second: example.com/m/shared\nlinking first, second\n") {
		t.Errorf("shown %q", out)
	}
	for program, name := range map[string]string{"first": "one", "second": "two"} {
		got, err := exec.Command(filepath.Join(to, program)).CombinedOutput()
		if err != nil || string(got) != name+" v1.2.3 "+text+"\n" {
			t.Errorf("%s prints %q, %v", program, got, err)
		}
	}
	if out, _, err := build(); err != nil || strings.Contains(out, "building") {
		t.Errorf("again: %q, %v", out, err)
	}
	write("shared/shared.go", "package shared\n\nconst Text = missing\n")
	if out, errs, err := build(); err == nil || !strings.Contains(errs, "undefined: missing") {
		t.Errorf("an error in the source: %q, %q, %v", out, errs, err)
	}
}
