// SPDX-License-Identifier: Apache-2.0

package service

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	wire "github.com/itechsmart/operator/internal/backend/vault"
)

// TestSchemathesis tries every operation of the OpenAPI document as an administrator, with what the document allows and
// with what it does not: each answer is one that the document tells, and none is a failure of the service.
func TestSchemathesis(t *testing.T) {
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
	settings, err := filepath.Abs(filepath.Join("testdata", "schemathesis.toml"))
	if err != nil {
		t.Fatal(err)
	}
	direct, _ := apiServer(t)
	r := start(t, settingsOn(t, servers.Postgres(t)), direct, t.TempDir())
	must[wire.Secret](r, http.StatusCreated, r.admin, "POST", "/secrets", write("db/password", "one"))
	must[wire.Secret](r, http.StatusOK, r.admin, "PUT", "/secrets/db%2Fpassword", value("two"))

	run := func(args ...string) {
		t.Helper()
		cmd := exec.Command(program, append([]string{"--config-file", settings, "run", r.url + "/openapi.json", "--no-color"}, args...)...)
		cmd.Dir = t.TempDir() // it writes there
		// The token comes by the environment: arguments are for everybody to see.
		cmd.Env = append(os.Environ(), "VAULT_TOKEN="+r.admin)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil {
			t.Errorf("schemathesis %s: %v\n%s", strings.Join(args, " "), err, strings.ReplaceAll(out.String(), r.admin, "***"))
			return
		}
		t.Logf("%s", out.String())
	}
	// What seals the vault comes last: nothing can be read then.
	run("--exclude-operation-id", "seal")
	run("--include-operation-id", "seal")
	if strings.Contains(r.logs.String(), "panicked") {
		t.Error("a handler panicked")
	}
}
