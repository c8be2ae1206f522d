// SPDX-License-Identifier: Apache-2.0

package service

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	workerconfig "github.com/itechsmart/operator/workloads/workflow/worker/config"
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
	r := up(t)
	r.put("sum", sum)
	r.put("hold", `{"steps":[{"name":"hold","type":"wait","with":{"event":true}},{"name":"ask","type":"approval","with":{"approvers":["admin"]}}]}`)
	r.put("hook", `{"triggers":[{"name":"open","type":"Webhook","webhook":{"path":"open"}},
		{"name":"signed","type":"Webhook","webhook":{"path":"signed","auth":{"hmacSecretRef":{"name":"shop"}}}}],
		"steps":[{"name":"a","type":"transform","with":{"value":1}}]}`)
	run, waiting := r.start("sum", `{"inputs":{"a":1}}`), r.start("hold", `{}`)
	r.ended(run.ID)
	r.waits(waiting.ID, "ask", 1)
	r.bind(workerconfig.Bindings{Workflows: map[string]workerconfig.WorkflowBindings{"hook": {HMAC: map[string][]byte{"signed": []byte(hmacKey)}}}})
	r.Wait("the key", func() bool { return r.Call("", "POST", "/webhooks/signed", `{}`).Status == 401 })

	dir := t.TempDir() // it writes there
	template, err := os.ReadFile(filepath.Join("testdata", "schemathesis.toml"))
	if err != nil {
		t.Fatal(err)
	}
	settings := filepath.Join(dir, "settings.toml")
	if err := os.WriteFile(settings, []byte(strings.NewReplacer("RUN", run.ID, "WAITING", waiting.ID).Replace(string(template))), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--config-file", settings, "run", r.URL+"/openapi.json", "--no-color")
	cmd.Dir = dir
	// The token comes by the environment: arguments are for everybody to see.
	cmd.Env = append(os.Environ(), "SERVICE_TOKEN="+r.Admin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Errorf("schemathesis: %v\n%s", err, strings.ReplaceAll(out.String(), r.Admin, "***"))
		return
	}
	t.Logf("%s", out.String())
	if strings.Contains(r.Logs.String(), "panicked") {
		t.Error("a handler panicked")
	}
}
