// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
)

// console matches a block of commands and their output, in a page.
var console = regexp.MustCompile("(?ms)^```console\n(.*?)^```")

// guideStep is one command of a page, and its output; "…" matches anything.
type guideStep struct {
	line            int
	command, prints string
}

// steps returns the commands of a page: a line starts with "$ ", and continues in those that start with "> ".
func steps(t *testing.T, page string) []guideStep {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root(), page))
	if err != nil {
		t.Fatal(err)
	}
	var out []guideStep
	for _, block := range console.FindAllSubmatchIndex(text, -1) {
		line := 1 + strings.Count(string(text[:block[2]]), "\n")
		for i, s := range strings.SplitAfter(string(text[block[2]:block[3]]), "\n") {
			if command, ok := strings.CutPrefix(s, "$ "); ok {
				out = append(out, guideStep{line: line + i, command: command})
				continue
			}
			last := &out[len(out)-1]
			if more, ok := strings.CutPrefix(s, "> "); ok {
				last.command += more
			} else {
				last.prints += s
			}
		}
	}
	return out
}

// script turns the steps into one program: each is announced on the standard output, and after a background process it
// waits until its port accepts connections.
func script(steps []guideStep) string {
	var b strings.Builder
	b.WriteString("set -euo pipefail; exec 2>&1; trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n")
	for i, s := range steps {
		fmt.Fprintf(&b, "echo '\x01%d'\n%s", i, s.command)
		if strings.HasSuffix(strings.TrimSpace(s.command), "&") {
			b.WriteString("for _ in $(seq 300); do curl -s localhost:8080 >/dev/null && break; sleep 0.1; done\n")
		}
	}
	return b.String()
}

// TestGuide runs the guides' commands exactly as written, and compares the output.
func TestGuide(t *testing.T) {
	for _, name := range []string{"first-secret.md", "first-workflow.md"} {
		t.Run(name, func(t *testing.T) { guide(t, filepath.Join("docs", name)) })
	}
}

func guide(t *testing.T, page string) {
	c := connect(t)
	c.platformReady()
	todo := steps(t, page)
	c.Expect(len(todo)).To(BeNumerically(">", 20), "the page has lost its commands")
	text := script(todo)
	// A user cannot be removed: a second run on one cluster needs another one.
	email := fmt.Sprintf("ada-%d@example.com", time.Now().Unix())
	command := exec.CommandContext(c.ctx, "bash", "-c", strings.ReplaceAll(text, "ada@example.com", email))
	command.Dir = root()
	command.Env = append(os.Environ(), "HOME="+t.TempDir(), "GOCACHE="+goEnv(t, "GOCACHE"), "GOMODCACHE="+goEnv(t, "GOMODCACHE"), "GOPATH="+goEnv(t, "GOPATH"))
	output, err := command.Output()
	printed := map[string]string{}
	for _, part := range strings.Split(string(output), "\x01")[1:] {
		number, rest, _ := strings.Cut(part, "\n")
		printed[number] = rest
	}
	for i, s := range todo {
		got, reached := printed[fmt.Sprint(i)]
		if !reached {
			t.Fatalf("%s:%d was not reached (%v); the step before printed:\n%s", page, s.line, err, printed[fmt.Sprint(i-1)])
		}
		want := strings.ReplaceAll(regexp.QuoteMeta(strings.ReplaceAll(strings.TrimSpace(s.prints), "ada@example.com", email)), "…", ".*")
		if want != "" && !regexp.MustCompile("(?s)^"+want+"$").MatchString(strings.TrimSpace(got)) {
			t.Errorf("%s:%d printed\n%swant\n%s", page, s.line, got, s.prints)
		}
	}
	if err != nil {
		t.Errorf("the last step failed: %v", err)
	}
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
