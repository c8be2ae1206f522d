// SPDX-License-Identifier: Apache-2.0

package producttest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Schemathesis returns the path of the program, which `make test` installs; without servers the test is skipped.
func Schemathesis(t testing.TB) string {
	t.Helper()
	if os.Getenv("ITECHSMART_SKIP_SERVERS") == "1" {
		t.Skip("ITECHSMART_SKIP_SERVERS=1")
	}
	program, err := filepath.Abs(filepath.Join("..", "..", "..", "..", ".local", "schemathesis", "bin", "schemathesis"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("no schemathesis: run hack/tools/schemathesis.sh: %v", err)
	}
	return program
}

// Conform tests the operations of the OpenAPI document as an administrator, with valid and invalid requests: each
// response must be documented, and none may be a failure of the service. settings is a file, in which SERVICE_TOKEN is
// the token.
func (r *Running) Conform(program, settings string, args ...string) {
	r.T.Helper()
	settings, err := filepath.Abs(settings)
	if err != nil {
		r.T.Fatal(err)
	}
	cmd := exec.Command(program, append([]string{"--config-file", settings, "run", r.URL + "/openapi.json", "--no-color"}, args...)...)
	cmd.Dir = r.T.TempDir() // it writes there
	// The token is passed in the environment: arguments are visible to other users.
	cmd.Env = append(os.Environ(), "SERVICE_TOKEN="+r.Admin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		r.T.Errorf("schemathesis %s: %v\n%s", strings.Join(args, " "), err, strings.ReplaceAll(out.String(), r.Admin, "***"))
		return
	}
	r.T.Logf("%s", out.String())
	if strings.Contains(r.Logs.String(), "panicked") {
		r.T.Errorf("a handler panicked")
	}
}
