// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/internal/live"
	"github.com/itechsmart/operator/workloads/internal/product/producttest"
)

const sum = `{
	"inputs": [{"name":"a","type":"integer","required":true},{"name":"b","type":"integer","default":2}],
	"triggers": [{"name":"hand","type":"Manual"},{"name":"rest","type":"API"}],
	"steps": [
		{"name":"add","type":"transform","with":{"value":"${{ inputs.a + inputs.b }}"}},
		{"name":"twice","needs":["add"],"type":"transform","with":{"value":"${{ steps.add.output * 2 }}"}}
	],
	"outputs": {"total":"${{ steps.twice.output }}"}
}`

// dial connects to the events of a run.
func (r *harness) dial(token, run, query string, header http.Header, protocols ...string) (*websocket.Conn, *http.Response, error) {
	if header == nil {
		header = http.Header{}
	}
	if token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	return websocket.Dial(r.T.Context(), "ws"+strings.TrimPrefix(r.URL, "http")+producttest.Base+"/runs/"+run+"/live"+query, &websocket.DialOptions{HTTPHeader: header, Subprotocols: protocols})
}

// listen reads messages until the run's end and the close.
func (r *harness) listen(conn *websocket.Conn) (events []Event, run *Run) {
	r.T.Helper()
	ctx, cancel := context.WithTimeout(r.T.Context(), time.Minute)
	defer cancel()
	for {
		_, data, err := conn.Read(ctx)
		if err != nil {
			if websocket.CloseStatus(err) != websocket.StatusNormalClosure {
				r.T.Fatalf("the connection ended: %v", err)
			}
			return events, run
		}
		var m Message
		if err := json.Unmarshal(data, &m); err != nil {
			r.T.Fatal(err)
		}
		if m.Event != nil {
			events = append(events, *m.Event)
		}
		if m.Run != nil {
			run = m.Run
		}
	}
}

func TestFlow(t *testing.T) {
	r := up(t)
	r.put("sum", sum)

	t.Run("start, follow, outputs", func(t *testing.T) {
		started := r.start("sum", `{"inputs":{"a":40}}`)
		if started.Workflow != "sum" || started.Generation != 1 || started.Trigger.Name != "hand" || started.Attempt != 1 {
			t.Errorf("started run: %+v", started)
		}
		conn, _, err := r.dial("", started.ID, "", nil, live.Protocol, "bearer."+r.viewer)
		if err != nil {
			t.Fatal(err)
		}
		if conn.Subprotocol() != live.Protocol {
			t.Errorf("subprotocol %q", conn.Subprotocol())
		}
		events, run := r.listen(conn)
		if run == nil || run.Phase != "Succeeded" || run.Outputs["total"] != 84.0 {
			t.Fatalf("ended run: %+v", run)
		}
		for i, e := range events {
			if e.Seq != int64(i+1) {
				t.Errorf("event %d has seq %d", i, e.Seq)
			}
		}
		if n := len(events); n == 0 || events[n-1].Kind != "RunSucceeded" {
			t.Errorf("events %+v", events)
		}
		listed := producttest.Must[api.List[Event]](r.Running, 200, r.viewer, "GET", "/runs/"+run.ID+"/events?limit=2", nil)
		for listed.Next != "" {
			next := producttest.Must[api.List[Event]](r.Running, 200, r.viewer, "GET", "/runs/"+run.ID+"/events?limit=2&cursor="+listed.Next, nil)
			listed.Items, listed.Next = append(listed.Items, next.Items...), next.Next
		}
		if len(listed.Items) != len(events) {
			t.Errorf("%d events listed, %d received", len(listed.Items), len(events))
		}
		// From the middle, with the token in the header.
		half := events[len(events)/2].Seq
		if conn, _, err = r.dial(r.viewer, run.ID, "?after="+api.ETag(half)[1:len(api.ETag(half))-1], nil); err != nil {
			t.Fatal(err)
		}
		if rest, run := r.listen(conn); run == nil || len(rest) != len(events)-int(half) {
			t.Errorf("after %d: %d events of %d", half, len(rest), len(events))
		}
		got := r.Call(r.viewer, "GET", "/runs/"+run.ID, nil)
		if again := r.Call(r.viewer, "GET", "/runs/"+run.ID, nil, "If-None-Match", got.Header.Get("ETag")); again.Status != 304 || len(again.Body) > 0 {
			t.Errorf("unchanged run: %d %s", again.Status, again.Body)
		}
		steps := producttest.Must[api.List[Step]](r.Running, 200, r.viewer, "GET", "/runs/"+run.ID+"/steps", nil)
		if len(steps.Items) != 2 || steps.Items[1].Name != "twice" || string(steps.Items[1].Output) != "84" || steps.Items[1].Phase != "Succeeded" {
			t.Errorf("steps %+v", steps.Items)
		}
	})

	t.Run("idempotency keys", func(t *testing.T) {
		body := `{"trigger":"rest","inputs":{"a":1}}`
		first := producttest.Must[Run](r.Running, 201, r.editor, "POST", "/workflows/sum/runs", body, "Idempotency-Key", "k1")
		again := producttest.Must[Run](r.Running, 200, r.editor, "POST", "/workflows/sum/runs", body, "Idempotency-Key", "k1")
		other := producttest.Must[Run](r.Running, 201, r.editor, "POST", "/workflows/sum/runs", body, "Idempotency-Key", "k2")
		if first.ID != again.ID || other.ID == first.ID || first.Trigger.Type != "API" {
			t.Errorf("%s, %s, %s", first.ID, again.ID, other.ID)
		}
		// Keys of manual starts belong to the caller.
		hand := producttest.Must[Run](r.Running, 201, r.editor, "POST", "/workflows/sum/runs", `{"inputs":{"a":1}}`, "Idempotency-Key", "k1")
		admins := producttest.Must[Run](r.Running, 201, r.Admin, "POST", "/workflows/sum/runs", `{"inputs":{"a":1}}`, "Idempotency-Key", "k1")
		if hand.ID == first.ID || admins.ID == hand.ID {
			t.Errorf("run %s belongs to another caller", hand.ID)
		}
		if a := r.Call(r.editor, "POST", "/workflows/sum/runs", body, "Idempotency-Key", "no space"); a.Status != 400 || a.Refusal(t).Field() != "header.Idempotency-Key" {
			t.Errorf("malformed key: %d %s", a.Status, a.Body)
		}
	})

	t.Run("lists", func(t *testing.T) {
		all := producttest.Must[api.List[Run]](r.Running, 200, r.viewer, "GET", "/runs?workflow=sum", nil)
		if len(all.Items) < 5 {
			t.Fatalf("%d runs", len(all.Items))
		}
		for _, run := range all.Items {
			r.ended(run.ID)
		}
		page := producttest.Must[api.List[Run]](r.Running, 200, r.viewer, "GET", "/workflows/sum/runs?limit=2&phase=Succeeded", nil)
		if len(page.Items) != 2 || page.Next == "" || page.Items[0].ID != all.Items[0].ID || page.Items[0].Inputs != nil {
			t.Errorf("page %+v", page)
		}
		next := producttest.Must[api.List[Run]](r.Running, 200, r.viewer, "GET", "/workflows/sum/runs?limit=2&phase=Succeeded&cursor="+page.Next, nil)
		if len(next.Items) != 2 || next.Items[0].ID != all.Items[2].ID {
			t.Errorf("next page %+v", next)
		}
		if a := r.Call(r.viewer, "GET", "/workflows/sum/runs?limit=2&phase=Failed&cursor="+page.Next, nil); a.Status != 400 {
			t.Errorf("cursor with another filter: %d", a.Status)
		}
		if failed := producttest.Must[api.List[Run]](r.Running, 200, r.viewer, "GET", "/runs?phase=Failed&phase=Cancelled", nil); len(failed.Items) != 0 {
			t.Errorf("failed runs %+v", failed.Items)
		}
	})
}
