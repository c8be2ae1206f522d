// SPDX-License-Identifier: Apache-2.0

package service

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/itechsmart/operator/workloads/internal/product/producttest"
	workerconfig "github.com/itechsmart/operator/workloads/workflow/worker/config"
)

// TestSchemathesis tests every operation of the OpenAPI document.
func TestSchemathesis(t *testing.T) {
	program := producttest.Schemathesis(t)
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

	template, err := os.ReadFile(filepath.Join("testdata", "schemathesis.toml"))
	if err != nil {
		t.Fatal(err)
	}
	settings := filepath.Join(t.TempDir(), "settings.toml")
	if err := os.WriteFile(settings, []byte(strings.NewReplacer("RUN", run.ID, "WAITING", waiting.ID).Replace(string(template))), 0o600); err != nil {
		t.Fatal(err)
	}
	r.Conform(program, settings)
}
