// SPDX-License-Identifier: Apache-2.0

package arch

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// tracked lists the files of the checkout that git tracks, and those that it would add.
func tracked(t *testing.T) []string {
	t.Helper()
	command := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	command.Dir = root
	out, err := command.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	var files []string
	for _, name := range strings.Split(strings.TrimRight(string(out), "\x00"), "\x00") {
		info, err := os.Lstat(filepath.Join(root, name))
		if err == nil && info.Mode().IsRegular() {
			files = append(files, name)
		}
	}
	if len(files) == 0 {
		t.Fatal("git lists no file")
	}
	return files
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

var generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

func TestGoFiles(t *testing.T) {
	const (
		longest = 500
		license = "// SPDX-License-Identifier: Apache-2.0\n\n"
	)
	for _, name := range tracked(t) {
		if filepath.Ext(name) != ".go" {
			continue
		}
		data := read(t, name)
		if generated.Match(data) {
			continue
		}
		if !bytes.HasPrefix(data, []byte(license)) {
			t.Errorf("%s: its first line must be %q, and an empty one must follow", name, strings.TrimSpace(license))
		}
		if lines := bytes.Count(data, []byte("\n")); lines > longest {
			t.Errorf("%s: %d lines; split files of more than %d", name, lines, longest)
		}
	}
}

func TestProjectFiles(t *testing.T) {
	wants := map[string]string{
		"LICENSE":    "Apache License",
		"PROJECT":    "multigroup: true",
		"Dockerfile": "FROM scratch",
		"Makefile":   "help:",
	}
	for name, want := range wants {
		if !strings.Contains(string(read(t, name)), want) {
			t.Errorf("%s: does not contain %q", name, want)
		}
	}
	project := string(read(t, "PROJECT"))
	for _, name := range tracked(t) {
		group, kind, ok := kindOf(name)
		if ok && !strings.Contains(project, " group: "+group+"\n") {
			t.Errorf("PROJECT: no resource of group %s, which holds %s", group, kind)
		}
	}
}

// kindOf returns group and kind from a path such as api/dataflow/v1alpha1/pipeline_types.go.
func kindOf(name string) (group, kind string, ok bool) {
	parts := strings.Split(name, "/")
	if len(parts) != 4 || parts[0] != "api" || parts[1] == "common" {
		return "", "", false
	}
	kind, ok = strings.CutSuffix(parts[3], "_types.go")
	return parts[1], kind, ok
}

// homes are directories of one machine, which no file of the project may name.
var homes = regexp.MustCompile(`(^|[\s"'=:(\x60])/(root|home/[a-z0-9_-]+|work|Users/[A-Za-z0-9_-]+)/`)

func TestNoMachinePaths(t *testing.T) {
	for _, name := range tracked(t) {
		if name == "test/arch/files_test.go" {
			continue
		}
		data := read(t, name)
		if bytes.IndexByte(data, 0) >= 0 {
			continue // not text
		}
		for i, line := range strings.Split(string(data), "\n") {
			if found := homes.FindString(line); found != "" {
				t.Errorf("%s:%d names a directory of one machine: %s", name, i+1, strings.TrimSpace(found))
			}
		}
	}
}

func TestPathNames(t *testing.T) {
	vague := regexp.MustCompile(`(^|/)(utils?|misc|common_?utils|tmp|temp|old|backup)(/|\.go$|_test\.go$)`)
	odd := regexp.MustCompile(`[^A-Za-z0-9._/@+-]`)
	for _, name := range tracked(t) {
		if vague.MatchString(name) {
			t.Errorf("%s: its name does not describe its content", name)
		}
		if odd.MatchString(name) {
			t.Errorf("%s: a path may have letters, digits and . _ - @ +", name)
		}
		if strings.HasSuffix(name, "go.work") {
			t.Errorf("%s: nested modules must stand alone", name)
		}
	}
}
