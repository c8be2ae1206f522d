// SPDX-License-Identifier: Apache-2.0

package service

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/internal/product/producttest"
)

// TestMemoryAlarm: while the broker blocks publishers only starts are refused, with 503; afterwards they work again.
func TestMemoryAlarm(t *testing.T) {
	if testing.Short() {
		t.Skip("restarts a server")
	}
	const setting = "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"
	rabbit := servers.StartRabbitMQ(t)
	r := upOn(t, settingsOn(t, rabbit.Binding))
	r.put("one", one)
	r.put("hook", `{"triggers":[{"name":"h","type":"Webhook","webhook":{"path":"h"}}],"steps":[{"name":"a","type":"transform","with":{"value":1}}]}`)
	before := r.ended(r.start("one", `{}`).ID)

	// The broker reports its alarm at the first publish: a start or two may be accepted before, and wait in the outbox.
	t.Setenv(setting, "-rabbit vm_memory_high_watermark {absolute,1000}")
	rabbit.Restart(t)
	var taken []string
	var refused producttest.Response
	r.Wait("a refusal", func() bool {
		a := r.Call(r.editor, "POST", "/workflows/one/runs", `{}`)
		if a.Status == http.StatusCreated {
			taken = append(taken, a.Header.Get("Location"))
		}
		refused = a
		return a.Status == http.StatusServiceUnavailable
	})
	if refused.Header.Get("Retry-After") == "" || refused.Refusal(t).Code != "unavailable" {
		t.Errorf("refused: %v %s", refused.Header, refused.Body)
	}
	for path, body := range map[string]string{"/webhooks/h": `{}`, "/runs/" + before.ID + "/rerun": `{"fromStep":"a"}`} {
		if a := r.Call(r.editor, "POST", path, body); a.Status != 503 {
			t.Errorf("%s: %d %s", path, a.Status, a.Body)
		}
	}
	if a := r.Call(r.viewer, "GET", "/runs/"+before.ID, nil); a.Status != 200 {
		t.Errorf("read of a run: %d %s", a.Status, a.Body)
	}
	health := func() string {
		answer, err := http.Get(r.URL + "/health")
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	r.Wait("health to be degraded", func() bool { return strings.Contains(health(), `"status":"degraded"`) })
	if !strings.Contains(r.Metrics(), "itechsmart_workflow_queue_connected 0") {
		t.Error("the metrics report a connected queue")
	}

	t.Setenv(setting, "")
	rabbit.Restart(t)
	var after string
	r.Wait("a start", func() bool {
		a := r.Call(r.editor, "POST", "/workflows/one/runs", `{}`)
		after = a.Header.Get("Location")
		return a.Status == http.StatusCreated
	})
	for _, location := range append(taken, after) {
		if run := r.ended(strings.TrimPrefix(location, producttest.Base+"/runs/")); run.Phase != "Succeeded" {
			t.Errorf("%s ended as %s", location, run.Phase)
		}
	}
	if m := r.Metrics(); !strings.Contains(m, "itechsmart_workflow_queue_connected 1") || !strings.Contains(m, "itechsmart_workflow_runs_started_total") {
		t.Error("the metrics report a disconnected queue")
	}
}
