// SPDX-License-Identifier: Apache-2.0

package launch_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	workflowv1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/workflow/internal/catalog"
	"github.com/itechsmart/operator/workloads/workflow/internal/engine"
	"github.com/itechsmart/operator/workloads/workflow/internal/launch"
	"github.com/itechsmart/operator/workloads/workflow/internal/storetest"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

func TestMain(m *testing.M) { servers.Main(m) }

type workflows map[string]*catalog.Entry

func (w workflows) Get(name string) (*catalog.Entry, bool) {
	e, ok := w[name]
	return e, ok
}

// starts records the requests, and has one run per key.
type starts struct {
	got  []engine.Start
	keys map[string]string
	err  error
}

func (s *starts) Start(_ context.Context, n engine.Start) (string, bool, error) {
	if s.err != nil {
		return "", false, s.err
	}
	if _, err := n.Program.Inputs(n.Inputs); err != nil {
		return "", false, err
	}
	if id := s.keys[n.IdempotencyKey]; id != "" && n.IdempotencyKey != "" {
		return id, false, nil
	}
	s.got = append(s.got, n)
	id := fmt.Sprint("run-", len(s.got))
	s.keys[n.IdempotencyKey] = id
	return id, true, nil
}

const orders = `{"inputs":[{"name":"customer"},{"name":"count","type":"integer","default":1}],
	"triggers":[{"name":"hand","type":"Manual"},
		{"name":"bus","type":"Event","event":{"source":"kafka","connectionRef":{"name":"k"},"name":"t","filter":"trigger.body.ok","dedupeKey":"string(trigger.body.id)"},
			"inputs":{"customer":"${{ trigger.body.who }}","count":"${{ trigger.body.id }}"}}],
	"connections":[{"name":"k"}],"steps":[{"name":"a","type":"transform","with":{"value":1}}]}`

func entry(t *testing.T, spec string) *catalog.Entry {
	t.Helper()
	w, err := definition.Parse("orders", []byte(spec))
	if err != nil {
		t.Fatal(err)
	}
	e := &catalog.Entry{Workflow: &workflowv1.Workflow{}}
	if e.Program, err = definition.Compile(w); err != nil {
		t.Fatal(err)
	}
	e.Workflow.Generation = 3
	return e
}

func event(body map[string]any) definition.TriggerInfo {
	return definition.TriggerInfo{Type: "Event", Name: "bus", Body: body}
}

func TestStart(t *testing.T) {
	suspended := entry(t, orders)
	suspended.Workflow.Spec.Suspend = true
	e := &starts{keys: map[string]string{}}
	l := launch.New(workflows{"orders": entry(t, orders), "wrong": {Workflow: &workflowv1.Workflow{}}, "suspended": suspended}, e, storetest.Pool(t))
	for name, c := range map[string]struct {
		request launch.Request
		want    error
	}{
		"unknown workflow": {launch.Request{Workflow: "nobody"}, launch.ErrNoWorkflow},
		"invalid":          {launch.Request{Workflow: "wrong"}, launch.ErrInvalidDefinition},
		"suspended":        {launch.Request{Workflow: "suspended"}, launch.ErrSuspended},
		"unknown trigger":  {launch.Request{Workflow: "orders", Trigger: "nobody"}, launch.ErrNoTrigger},
		"wrong message":    {launch.Request{Workflow: "orders", Trigger: "bus", Info: event(map[string]any{"ok": 5})}, backend.ErrInvalid},
	} {
		if got, err := l.Start(t.Context(), c.request); !errors.Is(err, c.want) || got != (launch.Started{}) {
			t.Errorf("%s: %+v, %v, want %v", name, got, err, c.want)
		}
	}
	var input *definition.InputError
	if _, err := l.Start(t.Context(), launch.Request{Workflow: "orders", Trigger: "hand", Inputs: map[string]any{"count": "x"}}); !errors.As(err, &input) || input.Path != "inputs.count" {
		t.Errorf("a wrong input: %v", err)
	}
	skipped, err := l.Start(t.Context(), launch.Request{Workflow: "orders", Trigger: "bus", Info: event(map[string]any{"ok": false})})
	if err != nil || !skipped.Skipped || len(e.got) != 0 {
		t.Errorf("filtered: %+v, %v, %d runs", skipped, err, len(e.got))
	}
	message := launch.Request{Workflow: "orders", Trigger: "bus", Info: event(map[string]any{"ok": true, "id": int64(7), "who": "ann"}), Key: "mine"}
	first, err := l.Start(t.Context(), message)
	again, errAgain := l.Start(t.Context(), message)
	if err != nil || errAgain != nil || !first.Created || again.Created || first.ID != again.ID || len(e.got) != 1 {
		t.Fatalf("%+v, %v, then %+v, %v", first, err, again, errAgain)
	}
	if got := e.got[0]; got.IdempotencyKey != "trigger/bus/7" || got.Inputs["customer"] != "ann" || got.Inputs["count"] != int64(7) || got.Generation != 3 {
		t.Errorf("started %+v", got)
	}
	if _, err := l.Start(t.Context(), launch.Request{Workflow: "orders", Inputs: map[string]any{"customer": "bob"}}); err != nil || e.got[1].Inputs["customer"] != "bob" {
		t.Errorf("from another workflow: %v", err)
	}
	e.err = backend.ErrUnavailable
	if _, err := l.Start(t.Context(), launch.Request{Workflow: "orders", Trigger: "hand"}); !errors.Is(err, backend.ErrUnavailable) {
		t.Error(err)
	}
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	counts, err := l.Counts(t.Context())
	if err != nil || counts["orders"]["bus"].Rejected != 1 || counts["orders"]["bus"].Fired.IsZero() || counts["orders"]["hand"].Rejected != 1 || !counts["orders"]["hand"].Fired.IsZero() {
		t.Errorf("counts %+v, %v", counts, err)
	}
}

// outage is a database that fails until it is back.
type outage struct {
	launch.Database
	gone bool
}

func (a *outage) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if a.gone {
		return pgconn.CommandTag{}, pgx.ErrTxClosed
	}
	return a.Database.Exec(ctx, sql, args...)
}

// Counts that could not be written are written later, and added to those of another replica.
func TestCountsSurviveAnOutage(t *testing.T) {
	pool := storetest.Pool(t)
	db := &outage{Database: pool, gone: true}
	one, two := launch.New(workflows{}, &starts{}, db), launch.New(workflows{}, &starts{}, pool)
	one.Reject("orders", "bus")
	if err := one.Flush(t.Context()); err == nil {
		t.Fatal("no error although the database is down")
	}
	one.Reject("orders", "bus")
	two.Reject("orders", "bus")
	db.gone = false
	for _, l := range []*launch.Launcher{two, one, one} {
		if err := l.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	counts, err := one.Counts(t.Context())
	if got := counts["orders"]["bus"].Rejected; err != nil || got != 3 {
		t.Errorf("%d rejected, want 3 (%v)", got, err)
	}
	if err := one.Forget(t.Context(), "orders"); err != nil {
		t.Fatal(err)
	}
	if counts, err := one.Counts(t.Context()); err != nil || len(counts) != 0 {
		t.Errorf("after Forget: %v, %v", counts, err)
	}
}
