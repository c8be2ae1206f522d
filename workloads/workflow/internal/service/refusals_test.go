// SPDX-License-Identifier: Apache-2.0

package service

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	workflowv1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/internal/product/producttest"
)

const one = `{"steps":[{"name":"a","type":"transform","with":{"value":1}}]}`

const noRun = "/runs/00000000-0000-7000-8000-000000000000"

// operations lists all operations that require a role, with the lowest role and its status.
var operations = []struct {
	role, method, path, body string
	status                   int
}{
	{"viewer", "GET", "/workflows", "", 200},
	{"viewer", "GET", "/workflows/one", "", 200},
	{"editor", "PUT", "/workflows/one", `{"spec":` + one + `}`, 200},
	{"editor", "POST", "/workflows/one/runs", `{}`, 201},
	{"viewer", "GET", "/workflows/one/runs", "", 200},
	{"viewer", "GET", "/runs", "", 200},
	{"viewer", "GET", noRun, "", 404},
	{"viewer", "GET", noRun + "/steps", "", 404},
	{"viewer", "GET", noRun + "/steps/a/output", "", 404},
	{"viewer", "GET", noRun + "/steps/a/outputs", "", 404},
	{"viewer", "GET", noRun + "/events", "", 404},
	{"viewer", "GET", noRun + "/live", "", 404},
	{"editor", "POST", noRun + "/cancel", "", 404},
	{"editor", "POST", noRun + "/rerun", `{"fromStep":"a"}`, 404},
	{"viewer", "POST", noRun + "/steps/a/decision", `{"decision":"approve"}`, 404},
	{"editor", "POST", noRun + "/steps/a/resume", `{}`, 404},
	{"admin", "GET", "/audit", "", 200},
	{"admin", "GET", "/audit/key", "", 200},
	{"admin", "GET", "/audit/export", "", 200},
	{"admin", "DELETE", "/workflows/one", "", 204},
}

func TestRoles(t *testing.T) {
	r := up(t)
	r.put("one", one)
	tokens := []struct{ role, token string }{{"", ""}, {"none", r.nobody}, {"viewer", r.viewer}, {"editor", r.editor}, {"admin", r.Admin}}
	covered := map[string]bool{}
	for _, o := range operations {
		covered[o.method+" "+strings.NewReplacer(noRun, "/runs/{id}", "/workflows/one", "/workflows/{name}", "/steps/a/", "/steps/{step}/").Replace(o.path)] = true
		enough := false
		for _, who := range tokens {
			enough = enough || who.role == o.role
			want := http.StatusForbidden
			switch {
			case who.token == "":
				want = http.StatusUnauthorized
			case enough && who.role == o.role:
				want = o.status
			case enough:
				continue // a higher role includes the lower one; each operation is done once
			}
			var body any
			if o.body != "" {
				body = o.body
			}
			if a := r.Call(who.token, o.method, o.path, body); a.Status != want {
				t.Errorf("%s %s as %q: %d %s, want %d", o.method, o.path, who.role, a.Status, a.Body, want)
			}
		}
	}
	// Every operation of the document must be listed.
	var document struct {
		Paths map[string]map[string]struct {
			Tags []string `json:"tags"`
		} `json:"paths"`
	}
	answer, err := http.Get(r.URL + "/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if err := json.NewDecoder(answer.Body).Decode(&document); err != nil {
		t.Fatal(err)
	}
	for path, methods := range document.Paths {
		for method, op := range methods {
			name := strings.ToUpper(method) + " " + strings.TrimPrefix(path, producttest.Base)
			if len(op.Tags) > 0 && (op.Tags[0] == productName || op.Tags[0] == "audit") && !covered[name] && name != "POST /webhooks/{path}" {
				t.Errorf("no test of the role for %s", name)
			}
		}
	}
}

func TestWorkflowWrites(t *testing.T) {
	r := up(t)
	get := func(name string) *workflowv1.Workflow {
		t.Helper()
		w := &workflowv1.Workflow{}
		if err := r.kubernetes.Get(t.Context(), types.NamespacedName{Namespace: r.Settings.Namespace, Name: name}, w); err != nil {
			t.Fatal(err)
		}
		return w
	}
	made := r.Call(r.editor, "PUT", "/workflows/one", `{"spec":`+one+`}`)
	tag := made.Header.Get("ETag")
	if made.Status != 201 || tag != `"1"` || get("one").Spec.PlatformRef.Name != producttest.Platform {
		t.Fatalf("create: %d %s %s", made.Status, tag, made.Body)
	}
	if err := r.kubernetes.Patch(t.Context(), get("one"), client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"team":"blue"}}}`))); err != nil {
		t.Fatal(err)
	}
	two := strings.ReplaceAll(one, `"value":1`, `"value":2`)
	if a := r.Call(r.editor, "PUT", "/workflows/one", `{"spec":`+two+`}`, "If-Match", tag); a.Status != 200 || a.Header.Get("ETag") != `"2"` {
		t.Errorf("replace: %d %s", a.Status, a.Body)
	}
	if w := get("one"); w.Labels["team"] != "blue" || string(w.Spec.Steps[0].With.Raw) != `{"value":2}` {
		t.Errorf("resource: %+v", w)
	}
	for _, match := range []string{tag, `"7"`} {
		if a := r.Call(r.editor, "PUT", "/workflows/one", `{"spec":`+two+`}`, "If-Match", match); a.Status != 412 {
			t.Errorf("If-Match %s: %d %s", match, a.Status, a.Body)
		}
		if a := r.Call(r.Admin, "DELETE", "/workflows/one", nil, "If-Match", match); a.Status != 412 {
			t.Errorf("delete, If-Match %s: %d %s", match, a.Status, a.Body)
		}
	}
	if a := r.Call(r.editor, "PUT", "/workflows/none", `{"spec":`+one+`}`, "If-Match", "*"); a.Status != 412 {
		t.Errorf("missing workflow: %d %s", a.Status, a.Body)
	}
	other := &workflowv1.Workflow{}
	if err := json.Unmarshal([]byte(`{"metadata":{"name":"theirs","namespace":"`+r.Settings.Namespace+`"},"spec":{"platformRef":{"name":"another"},"steps":[{"name":"a","type":"transform","with":{"value":1}}]}}`), other); err != nil {
		t.Fatal(err)
	}
	if err := r.kubernetes.Create(t.Context(), other, &client.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if a := r.Call(r.editor, "PUT", "/workflows/theirs", `{"spec":`+one+`}`); a.Status != 409 {
		t.Errorf("write of another Platform's workflow: %d %s", a.Status, a.Body)
	}
	if a := r.Call(r.Admin, "DELETE", "/workflows/theirs", nil); a.Status != 409 {
		t.Errorf("delete of another Platform's workflow: %d %s", a.Status, a.Body)
	}
	r.Wait("the list to be complete", func() bool {
		list := producttest.Must[api.List[Workflow]](r.Running, 200, r.viewer, "GET", "/workflows", nil)
		return len(list.Items) == 1 && list.Items[0].Name == "one" && list.Items[0].Generation == 2 && list.Items[0].Proven && list.Items[0].Spec == nil
	})
	producttest.Must[any](r.Running, 204, r.Admin, "DELETE", "/workflows/one", nil)
	r.Wait("the workflow to be deleted", func() bool { return r.Call(r.viewer, "GET", "/workflows/one", nil).Status == 404 })
	for _, action := range []string{"workflow.write", "workflow.delete"} {
		r.Wait("the audit log to have "+action, func() bool { return strings.Contains(r.Logs.String(), `"action":"`+action+`"`) })
	}
}

func TestBadInput(t *testing.T) {
	r := up(t)
	r.put("sum", sum)
	steps := func(n int) string {
		return `{"steps":[` + strings.TrimSuffix(strings.Repeat(`{"name":"a","type":"transform","with":{"value":1}},`, n), ",") + `]}`
	}
	for name, c := range map[string]struct {
		spec   string
		fields []string // that are named, each as a prefix
	}{
		"a cycle":                  {`{"steps":[{"name":"a","needs":["b"],"type":"transform","with":{"value":1}},{"name":"b","needs":["a"],"type":"transform","with":{"value":1}}]}`, []string{"body.spec.steps[0].needs"}},
		"101 steps":                {steps(101), []string{"body.spec.steps"}},
		"a forward reference":      {`{"steps":[{"name":"a","type":"transform","with":{"value":"${{ steps.b.output }}"}},{"name":"b","type":"transform","with":{"value":1}}]}`, []string{"body.spec.steps[0].with.value"}},
		"when is not a bool":       {`{"steps":[{"name":"a","when":"1 + 1","type":"transform","with":{"value":1}}]}`, []string{"body.spec.steps[0].when"}},
		"a wrong cron line":        {`{"triggers":[{"name":"t","type":"Scheduled","scheduled":{"cron":"61 * * * *","timeZone":"Mars/Olympus"}}],"steps":[{"name":"a","type":"transform","with":{"value":1}}]}`, []string{"body.spec.triggers[0].scheduled.timeZone", "body.spec.triggers[0].scheduled.cron"}},
		"itself":                   {`{"steps":[{"name":"a","type":"workflow","with":{"name":"bad"}}]}`, []string{"body.spec.steps[0].with.name"}},
		"an unknown field":         {`{"step":[],"steps":[{"name":"a","type":"transform","with":{"value":1}}]}`, []string{"body.spec"}},
		"a wrong type":             {`{"timeout":7,"steps":[{"name":"a","type":"transform","with":{"value":1}}]}`, []string{"body.spec"}},
		"another Platform":         {`{"platformRef":{"name":"other"},"steps":[{"name":"a","type":"transform","with":{"value":1}}]}`, []string{"body.spec.platformRef.name"}},
		"a rule of the API server": {`{"history":{"ttl":"1s"},"steps":[{"name":"a","type":"transform","with":{"value":1}}]}`, []string{"body.spec.history.ttl"}},
	} {
		a := r.Call(r.editor, "PUT", "/workflows/bad", `{"spec":`+c.spec+`}`)
		said := a.Refusal(t)
		if a.Status != 422 || len(said.Details) < len(c.fields) {
			t.Errorf("%s: %d %s", name, a.Status, a.Body)
			continue
		}
		for i, field := range c.fields {
			if !strings.HasPrefix(said.Details[i].Field, field) {
				t.Errorf("%s: field %s, want %s: %s", name, said.Details[i].Field, field, a.Body)
			}
		}
	}
	for name, c := range map[string]struct {
		body, field string
		status      int
	}{
		"a missing input":            {`{}`, "body.inputs.a", 422},
		"a wrong type":               {`{"inputs":{"a":"canary"}}`, "body.inputs.a", 422},
		"an unknown input":           {`{"inputs":{"a":1,"canary":1}}`, "body.inputs.canary", 422},
		"an unknown trigger":         {`{"trigger":"canary","inputs":{"a":1}}`, "body.trigger", 422},
		"a number that is too large": {`{"inputs":{"a":1e999}}`, "body", 400},
		"an unknown field":           {`{"input":{}}`, "body", 422},
		"not JSON":                   {`{"inputs":`, "body", 400},
		"a very long number":         {`{"inputs":{"a":1,"b":` + strings.Repeat("1", 300<<10) + `}}`, "body", 400},
		"too large":                  {`{"inputs":{"a":"` + strings.Repeat("x", 2<<20) + `"}}`, "body", 413},
	} {
		a := r.Call(r.editor, "POST", "/workflows/sum/runs", c.body)
		if field := a.Refusal(t).Field(); a.Status != c.status || !strings.HasPrefix(field, c.field) {
			t.Errorf("%s: %d %s, want %d for %s", name, a.Status, a.Body, c.status, c.field)
		}
	}
	for path, status := range map[string]int{"/runs/none": 422, "/runs?phase=Lost": 422, "/runs?cursor=x": 400, "/runs?limit=0": 422, "/runs?color=blue": 422, "/workflows/UPPER": 422, "/workflows/none": 404, "/workflows/none/runs": 404} {
		if a := r.Call(r.viewer, "GET", path, nil); a.Status != status {
			t.Errorf("%s: %d %s", path, a.Status, a.Body)
		}
	}
	if a := r.Call(r.editor, "POST", "/workflows/none/runs", `{}`); a.Status != 404 {
		t.Errorf("start of a missing workflow: %d %s", a.Status, a.Body)
	}
	r.put("asleep", strings.Replace(one, "{", `{"suspend":true,`, 1))
	if a := r.Call(r.editor, "POST", "/workflows/asleep/runs", `{}`); a.Status != 409 || a.Refusal(t).Code != "suspended" {
		t.Errorf("suspended: %d %s", a.Status, a.Body)
	}
	r.put("busy", `{"concurrency":{"max":1,"policy":"Skip"},"steps":[{"name":"a","type":"wait","with":{"event":true}}]}`)
	r.start("busy", `{}`)
	if a := r.Call(r.editor, "POST", "/workflows/busy/runs", `{}`); a.Status != 409 || a.Refusal(t).Code != "busy" {
		t.Errorf("busy: %d %s", a.Status, a.Body)
	}
}

func TestLiveRefusals(t *testing.T) {
	settings := settingsOn(t, servers.RabbitMQ(t))
	settings.CORS.Origins = []string{"https://console.example.com"}
	r := upOn(t, settings)
	r.put("hold", `{"steps":[{"name":"a","type":"wait","with":{"event":true}}]}`)
	run := r.start("hold", `{}`).ID
	for name, c := range map[string]struct {
		token     string
		header    http.Header
		protocols []string
		status    int
	}{
		"nobody":          {"", nil, nil, 401},
		"no role":         {r.nobody, nil, nil, 403},
		"a bad token":     {"", nil, []string{"itechsmart.v1", "bearer.canary"}, 401},
		"a token alone":   {"", nil, []string{"bearer." + r.viewer}, 400},
		"another site":    {r.viewer, http.Header{"Origin": {"https://evil.example.com"}}, nil, 403},
		"no origin":       {r.viewer, http.Header{"Origin": {"null"}}, nil, 403},
		"a listed origin": {r.viewer, http.Header{"Origin": {"https://console.example.com"}}, nil, 101},
		"its own origin":  {r.viewer, http.Header{"Origin": {r.URL}}, nil, 101},
	} {
		conn, answer, err := r.dial(c.token, run, "", c.header, c.protocols...)
		if answer == nil || answer.StatusCode != c.status {
			t.Errorf("%s: %v %v, want %d", name, answer, err, c.status)
		}
		if conn != nil {
			_ = conn.CloseNow()
		}
	}
	if a := r.Call(r.viewer, "GET", "/runs/"+run+"/live", nil); a.Status != 426 || a.Header.Get("Upgrade") != "websocket" {
		t.Errorf("no upgrade: %d %s", a.Status, a.Body)
	}
	if a := r.Call("", "GET", "/runs/"+run+"/live?token="+r.viewer, nil); a.Status != 401 && a.Status != 422 {
		t.Errorf("a token in the query: %d %s", a.Status, a.Body)
	}
	// A shutdown of the service closes connections properly.
	conn, _, err := r.dial(r.viewer, run, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	go r.Stop()
	for {
		if _, _, err = conn.Read(t.Context()); err != nil {
			break
		}
	}
	if websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("at shutdown: %v", err)
	}
}

// TestOtherTenant: two services share no runs, no cursors and no permissions.
func TestOtherTenant(t *testing.T) {
	shop := up(t)
	theirs := settingsOn(t, servers.RabbitMQ(t))
	theirs.Identity, theirs.Auth = shop.Settings.Identity, shop.Settings.Auth
	bank := &harness{bindings: t.TempDir()}
	reach, c, namespace := kubernetes(t)
	theirs.Namespace, bank.kubernetes = namespace, c
	bank.Running = producttest.Start(t, productOf(bank.bindings), theirs, reach)
	work(t, theirs)
	bank.viewer, bank.editor = bank.Admin, bank.Admin
	bank.put("one", one)
	bank.put("hook", `{"triggers":[{"name":"h","type":"Webhook","webhook":{"path":"h"}}],"steps":[{"name":"a","type":"transform","with":{"value":1}}]}`)
	run := bank.start("one", `{}`)
	bank.ended(run.ID)
	shop.put("one", one)
	for range 2 {
		shop.start("one", `{}`)
	}
	list := producttest.Must[api.List[Run]](shop.Running, 200, shop.viewer, "GET", "/runs?limit=1", nil)

	admin := shop.Register("admin@shop.example.com", "admin")
	for _, o := range operations {
		var body any
		if o.body != "" {
			body = o.body
		}
		path := strings.Replace(o.path, noRun, "/runs/"+run.ID, 1)
		if a := bank.Call(admin, o.method, path, body); a.Status != 403 {
			t.Errorf("%s %s by another tenant's administrator: %d %s", o.method, path, a.Status, a.Body)
		}
	}
	if a := bank.Call(admin, "POST", "/webhooks/h", `{}`); a.Status != 403 {
		t.Errorf("a webhook by another tenant's administrator: %d %s", a.Status, a.Body)
	}
	if a := shop.Call(admin, "GET", "/runs/"+run.ID, nil); a.Status != 404 {
		t.Errorf("run of another tenant: %d %s", a.Status, a.Body)
	}
	if a := bank.Call(bank.Admin, "GET", "/runs?limit=1&cursor="+url.QueryEscape(list.Next), nil); list.Next == "" || a.Status != 400 {
		t.Errorf("cursor of another tenant: %d %s", a.Status, a.Body)
	}
}
