// SPDX-License-Identifier: Apache-2.0

package service

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/internal/backend/s3"
	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/internal/product/producttest"
	workflowconfig "github.com/itechsmart/operator/workloads/workflow/config"
)

// largeHook passes the body of a webhook through its steps.
const largeHook = `{
	"triggers": [{"name":"h","type":"Webhook","webhook":{"path":"h","respond":"WaitForResult","maxPayloadBytes":8388608}},
		{"name":"quick","type":"Webhook","webhook":{"path":"quick","maxPayloadBytes":8388608}}],
	"steps": [
		{"name":"a","type":"transform","with":{"value":{"text":"${{ trigger.body.text }}"}},"outputs":{"again":"${{ result.text }}"}},
		{"name":"each","needs":["a"],"type":"transform","forEach":{"items":[1,2]},"with":{"value":"${{ index == 1 ? steps.a.output.text : 'small' }}"}},
		{"name":"s","needs":["each"],"type":"script","with":{"source":"result = len(steps[\"a\"][\"output\"][\"text\"]) + len(steps[\"each\"][\"output\"][1])"}}],
	"outputs": {"size":"${{ steps.s.output.result }}"}
}`

func withObjects(t *testing.T, b backend.Binding) *harness {
	t.Helper()
	settings := settingsOn(t, servers.RabbitMQ(t))
	settings.Objects, settings.Settings = b.Data(), producttest.Own(workflowconfig.Settings{MaxOutputBytes: 8 << 20})
	r := upOn(t, settings)
	r.put("hook", largeHook)
	return r
}

// stepsOf returns the run's steps by name and item.
func (r *harness) stepsOf(run string) map[string]Step {
	r.T.Helper()
	out := map[string]Step{}
	for _, s := range producttest.Must[api.List[Step]](r.Running, 200, r.viewer, "GET", "/runs/"+run+"/steps", nil).Items {
		name := s.Name
		if s.Item != nil {
			name += fmt.Sprint(*s.Item)
		}
		out[name] = s
	}
	return out
}

// TestLargePayloads passes 5 MiB from a webhook through several kinds of steps to the REST API.
func TestLargePayloads(t *testing.T) {
	const size = 5 << 20
	text := strings.Repeat("0123456789abcdef", size/16)
	b := servers.Bucket(t, servers.MinIO(t))
	r := withObjects(t, b)
	a := r.Call(r.editor, "POST", "/webhooks/h", `{"text":"`+text+`"}`)
	if want := fmt.Sprintf(`"size":%d`, 2*size); a.Status != 200 || !contains(a.Body, want) {
		t.Fatalf("%d %.300s, want %s", a.Status, a.Body, want)
	}
	id := strings.TrimPrefix(a.Header.Get("Location"), producttest.Base+"/runs/")
	steps := r.stepsOf(id)
	at := func(path string) json.RawMessage {
		return json.RawMessage(fmt.Sprintf(`{"$object":{"bytes":%d,"href":"%s/runs/%s/steps/%s"}}`, size+len(`{"text":""}`), producttest.Base, id, path))
	}
	if got := steps["a"].Output; string(got) != string(at("a/output")) {
		t.Errorf("output = %.300s", got)
	}
	if got := steps["each"].Output; !contains(got, `["small",{"$object":{`) || !contains(got, `/steps/each/output?item=1"}}]`) {
		t.Errorf("outputs of all items = %.300s", got)
	}
	for path, want := range map[string]string{
		"a/output": `{"text":"` + text + `"}`, "a/outputs": `{"again":"` + text + `"}`, "each/output?item=1": `"` + text + `"`, "each/output?item=0": `"small"`,
		"each/output": `["small","` + text + `"]`, "s/output": fmt.Sprintf(`{"log":"","result":%d}`, 2*size),
	} {
		a := r.Call(r.viewer, "GET", "/runs/"+id+"/steps/"+path, nil)
		if a.Status != 200 || string(a.Body) != want || a.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %.200s, %d bytes, want %d", path, a.Status, a.Body, len(a.Body), len(want))
		}
	}
	for path, want := range map[string]int{"s/outputs": 404, "none/output": 404, "each/output?item=7": 404, "each/output?item=-2": 422} {
		if a := r.Call(r.viewer, "GET", "/runs/"+id+"/steps/"+path, nil); a.Status != want {
			t.Errorf("%s: %d %.200s, want %d", path, a.Status, a.Body, want)
		}
	}
	if a := r.Call(r.nobody, "GET", "/runs/"+id+"/steps/a/output", nil); a.Status != 403 {
		t.Errorf("without a role: %d", a.Status)
	}
	for _, name := range []string{"written_bytes_total", "read_bytes_total", `_failures_total{operation="read"} 0`} {
		if !strings.Contains(r.Metrics(), name) {
			t.Errorf("the metrics lack %s", name)
		}
	}
	if a := r.Call(r.editor, "POST", "/webhooks/h", `{"$object":{"key":"x","bytes":1,"sha256":""}}`); a.Status != 422 {
		t.Errorf("a forged reference: %d %s", a.Status, a.Body)
	}
	r.emptied(b)
	for path, want := range map[string]int{"a/output": 410, "a/outputs": 410, "each/output": 410, "each/output?item=0": 200} {
		if a := r.Call(r.viewer, "GET", "/runs/"+id+"/steps/"+path, nil); a.Status != want {
			t.Errorf("%s of an empty bucket: %d %.200s, want %d", path, a.Status, a.Body, want)
		}
	}
}

// emptied deletes all objects of a bucket.
func (r *harness) emptied(b backend.Binding) {
	r.T.Helper()
	bucket, err := s3.Open(b)
	if err != nil {
		r.T.Fatal(err)
	}
	defer bucket.Close() //nolint:errcheck // a test's
	names, _, err := bucket.Folders(r.T.Context(), "", 1000)
	for _, name := range names {
		if err == nil {
			err = bucket.DeleteFolder(r.T.Context(), name)
		}
	}
	if err != nil || len(names) == 0 {
		r.T.Fatal(len(names), err)
	}
}

// TestBucketDown: requests that need the bucket return 503, the others work.
func TestBucketDown(t *testing.T) {
	if testing.Short() {
		t.Skip("restarts a server")
	}
	minio := servers.StartMinIO(t)
	r := withObjects(t, servers.Bucket(t, minio.Binding))
	large := `{"text":"` + strings.Repeat("x", 1<<20) + `"}`
	var before Run
	if a := r.Call(r.editor, "POST", "/webhooks/h", large); a.Status != 200 {
		t.Fatalf("%d %.300s", a.Status, a.Body)
	} else {
		before.ID = strings.TrimPrefix(a.Header.Get("Location"), producttest.Base+"/runs/")
	}
	minio.Stop()
	if a := r.Call(r.editor, "POST", "/webhooks/quick", large); a.Status != 503 || a.Header.Get("Retry-After") == "" || a.Refusal(t).Code != "unavailable" {
		t.Errorf("a large body: %d %.300s", a.Status, a.Body)
	}
	if a := r.Call(r.viewer, "GET", "/runs/"+before.ID+"/steps/a/output", nil); a.Status != 503 {
		t.Errorf("a large output: %d %.300s", a.Status, a.Body)
	}
	if a := r.Call(r.viewer, "GET", "/runs/"+before.ID+"/steps", nil); a.Status != 200 {
		t.Errorf("the steps: %d %.300s", a.Status, a.Body)
	}
	small := r.Call(r.editor, "POST", "/webhooks/quick", `{"text":"x"}`)
	if small.Status != http.StatusAccepted {
		t.Errorf("a small body: %d %.300s", small.Status, small.Body)
	}
	if run := r.ended(strings.TrimPrefix(small.Header.Get("Location"), producttest.Base+"/runs/")); run.Phase != "Succeeded" {
		t.Errorf("a run without large values ended as %s", run.Phase)
	}
	minio.Restart(t)
	r.Wait("a large body to be accepted", func() bool { return r.Call(r.editor, "POST", "/webhooks/quick", large).Status == http.StatusAccepted })
}
