// SPDX-License-Identifier: Apache-2.0

package service

import (
	"testing"

	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/internal/product/producttest"
)

const release = `{
	"steps": [
		{"name":"build","type":"transform","with":{"value":"${{ run.attempt }}"}},
		{"name":"ask","needs":["build"],"type":"approval","with":{"approvers":["boss@example.com","admin"],"message":"Release?"}},
		{"name":"ship","needs":["ask"],"type":"transform","with":{"value":"${{ steps.ask.output.by + ' ' + string(run.attempt) }}"}}
	],
	"outputs": {"by":"${{ steps.ship.output }}","built":"${{ steps.build.output }}"}
}`

// waits waits until the given number of rows of a step are waiting.
func (r *harness) waits(id, step string, rows int) {
	r.T.Helper()
	r.Wait("step "+step+" to wait", func() bool {
		n := 0
		for _, s := range producttest.Must[api.List[Step]](r.Running, 200, r.viewer, "GET", "/runs/"+id+"/steps", nil).Items {
			if s.Name == step && s.Resumable {
				n++
			}
		}
		return n == rows
	})
}

func TestControl(t *testing.T) {
	r := up(t)
	r.put("release", release)
	r.put("callback", `{"steps":[{"name":"hold","type":"wait","with":{"event":true}},
		{"name":"each","needs":["hold"],"type":"approval","forEach":{"items":["a","b"]},"with":{"approvers":["viewer"]}}],
		"outputs":{"said":"${{ steps.hold.output.data }}"}}`)
	var approved Run

	t.Run("only approvers decide", func(t *testing.T) {
		run := r.start("release", `{}`)
		r.waits(run.ID, "ask", 1)
		if run = producttest.Must[Run](r.Running, 200, r.viewer, "GET", "/runs/"+run.ID, nil); run.Phase != "Waiting" || run.Step != "ask" {
			t.Errorf("the waiting run is %s at %s", run.Phase, run.Step)
		}
		decision := "/runs/" + run.ID + "/steps/ask/decision"
		for who, token := range map[string]string{"viewer": r.viewer, "editor": r.editor, "nobody": r.nobody} {
			if a := r.Call(token, "POST", decision, `{"decision":"approve"}`); a.Status != 403 {
				t.Errorf("decision of %s: %d %s", who, a.Status, a.Body)
			}
		}
		if a := r.Call(r.editor, "POST", "/runs/"+run.ID+"/steps/ask/resume", `{"data":{"decision":"approve","by":"boss@example.com"}}`); a.Status != 409 {
			t.Errorf("resume an approval: %d %s", a.Status, a.Body)
		}
		if a := r.Call(r.approver, "POST", decision, `{"decision":"maybe"}`); a.Status != 422 || a.Refusal(t).Field() != "body.decision" {
			t.Errorf("unknown decision: %d %s", a.Status, a.Body)
		}
		producttest.Must[Run](r.Running, 200, r.approver, "POST", decision, `{"decision":"approve","comment":"go"}`)
		if a := r.Call(r.Admin, "POST", decision, `{"decision":"reject"}`); a.Status != 409 {
			t.Errorf("second decision: %d %s", a.Status, a.Body)
		}
		if approved = r.ended(run.ID); approved.Outputs["by"] != "boss@example.com 1" {
			t.Errorf("ended run: %+v", approved)
		}
	})

	t.Run("callers cannot set the result of a Job", func(t *testing.T) {
		r.put("pack", `{"steps":[{"name":"pod","type":"job","with":{"image":"example/pack:1"}}]}`)
		run := r.start("pack", `{}`)
		r.waits(run.ID, "pod", 1)
		if a := r.Call(r.editor, "POST", "/runs/"+run.ID+"/steps/pod/resume", `{"data":{"output":{"exitCode":0}}}`); a.Status != 409 {
			t.Errorf("resume a Job's step: %d %s", a.Status, a.Body)
		}
		producttest.Must[Run](r.Running, 200, r.editor, "POST", "/runs/"+run.ID+"/cancel", `{}`)
	})

	t.Run("a role rejects", func(t *testing.T) {
		run := r.start("release", `{}`)
		r.waits(run.ID, "ask", 1)
		producttest.Must[Run](r.Running, 200, r.Admin, "POST", "/runs/"+run.ID+"/steps/ask/decision", `{"decision":"reject","comment":"not today"}`)
		if run = r.ended(run.ID); run.Phase != "Failed" || run.Outputs != nil {
			t.Errorf("ended run: %+v", run)
		}
	})

	t.Run("rerun from a step", func(t *testing.T) {
		rerun := "/runs/" + approved.ID + "/rerun"
		again := producttest.Must[Run](r.Running, 201, r.editor, "POST", rerun, `{"fromStep":"ship"}`, "Idempotency-Key", "k")
		if same := producttest.Must[Run](r.Running, 200, r.editor, "POST", rerun, `{"fromStep":"ship"}`, "Idempotency-Key", "k"); same.ID != again.ID {
			t.Errorf("same key: runs %s and %s", again.ID, same.ID)
		}
		again = r.ended(again.ID)
		if again.RerunOf != approved.ID || again.RerunFrom != "ship" || again.Attempt != 2 || again.Outputs["by"] != "boss@example.com 2" || again.Outputs["built"] != 1.0 {
			t.Errorf("re-run: %+v", again)
		}
		if a := r.Call(r.editor, "POST", rerun, `{"fromStep":"nowhere"}`); a.Status != 422 || a.Refusal(t).Field() != "body.fromStep" {
			t.Errorf("rerun from an unknown step: %d %s", a.Status, a.Body)
		}
	})

	t.Run("cancel", func(t *testing.T) {
		run := r.start("release", `{}`)
		r.waits(run.ID, "ask", 1)
		if a := r.Call(r.editor, "POST", "/runs/"+run.ID+"/rerun", `{"fromStep":"build"}`); a.Status != 409 {
			t.Errorf("rerun of an active run: %d %s", a.Status, a.Body)
		}
		producttest.Must[Run](r.Running, 200, r.editor, "POST", "/runs/"+run.ID+"/cancel", nil)
		if run = r.ended(run.ID); run.Phase != "Cancelled" {
			t.Errorf("phase after cancel = %s", run.Phase)
		}
		if a := r.Call(r.editor, "POST", "/runs/"+run.ID+"/cancel", nil); a.Status != 409 {
			t.Errorf("second cancel: %d", a.Status)
		}
	})

	t.Run("resume, and items", func(t *testing.T) {
		run := r.start("callback", `{}`)
		r.waits(run.ID, "hold", 1)
		if a := r.Call(r.approver, "POST", "/runs/"+run.ID+"/steps/hold/decision", `{"decision":"approve"}`); a.Status != 409 {
			t.Errorf("decision on a wait: %d %s", a.Status, a.Body)
		}
		producttest.Must[Run](r.Running, 200, r.editor, "POST", "/runs/"+run.ID+"/steps/hold/resume", `{"data":{"n":9007199254740993}}`)
		r.waits(run.ID, "each", 2)
		for _, item := range []string{"0", "1"} {
			producttest.Must[Run](r.Running, 200, r.viewer, "POST", "/runs/"+run.ID+"/steps/each/decision", `{"decision":"approve","item":`+item+`}`)
		}
		r.ended(run.ID)
		if a := r.Call(r.viewer, "GET", "/runs/"+run.ID, nil); !contains(a.Body, `"said":{"n":9007199254740993}`) {
			t.Errorf("ended run: %s", a.Body)
		}
	})
}
