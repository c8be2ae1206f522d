// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// TestDelegated: queries return only steps that wait for the service, in pages, and use the index.
func TestDelegated(t *testing.T) {
	pool := openPool(t)
	s := New(pool, Options{})
	id := uuid.Must(uuid.NewV7()).String()
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := pool.Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec(`INSERT INTO runs (id, workflow, generation, hash, phase, stage, state, seq, inputs, trigger, timeout_ms, attempt, created)
		VALUES ($1, 'w', 1, 'h', 'Waiting', 'Main', '', 1, '{}', '{}', 1, 1, now())`, id)
	for i, detail := range []string{`{"delegate":{"type":"job","x":"\u0000"}}`, `{"approvers":["\u0000"],"delegate":1}`, `{"delegate":{"type":"workflow"}}`, `{"delegate":{}}`} {
		phase := "Waiting"
		if i == 3 {
			phase = "Succeeded"
		}
		exec(`INSERT INTO steps (run, step, item, name, phase, attempt, claims, resumable, detail) VALUES ($1, $2, -1, 's' || $2::int, $3, 1, 0, true, $4)`, id, i, phase, detail)
	}
	exec(`INSERT INTO steps (run, step, item, name, phase, attempt, claims, resumable, detail) SELECT gen_random_uuid(), 0, -1, 'a', 'Waiting', 1, 0, true, '{"approvers":["ann"]}' FROM generate_series(1, 5000)`)
	var found []int
	for after, more := BeforeDelegated(), true; more; {
		page, err := s.Delegated(t.Context(), after, 1)
		if err != nil {
			t.Fatal(err)
		}
		for _, ref := range page {
			found, after = append(found, ref.Step), ref
		}
		more = len(page) > 0
	}
	if fmt.Sprint(found) != "[0 2]" {
		t.Errorf("steps = %v, want 0 and 2", found)
	}
	ref := DelegatedRef{Run: id, Step: 2, Item: -1, Attempt: 1}
	details, err := s.DelegatedDetails(t.Context(), []DelegatedRef{ref, {Run: id, Step: 0, Item: -1, Attempt: 2}})
	if err != nil || len(details) != 1 || details[0].Workflow != "w" || details[0].Name != "s2" || string(details[0].Detail) != `{"delegate":{"type":"workflow"}}` {
		t.Errorf("%+v, %v", details, err)
	}
	exec(`ANALYZE steps`)
	var plan []string
	rows, err := pool.Query(t.Context(), `EXPLAIN SELECT s.run FROM steps s WHERE `+waitsForService)
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		plan = append(plan, line)
	}
	if !strings.Contains(strings.Join(plan, "\n"), "steps_delegated") {
		t.Errorf("the index is not used: %s", strings.Join(plan, "\n"))
	}
}

func TestDelegations(t *testing.T) {
	pool := openPool(t)
	s := New(pool, Options{})
	d := Delegation{DelegatedRef: DelegatedRef{Run: uuid.Must(uuid.NewV7()).String(), Item: -1, Attempt: 1}, Kind: "job", Target: "wf-1"}
	for range 2 {
		if got, err := s.Intend(t.Context(), d); err != nil || got != d {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	d.Target, d.Begun = "wf-2", true
	if err := s.Begun(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	again := d
	again.Target = "another"
	if got, err := s.Intend(t.Context(), again); err != nil || got != d {
		t.Errorf("%+v, %v: the existing record should stay", got, err)
	}
	if list, err := s.Abandoned(t.Context(), 10); err != nil || !reflect.DeepEqual(list, []Delegation{d}) {
		t.Errorf("%+v, %v", list, err)
	}
	if err := s.Settled(t.Context(), d.DelegatedRef); err != nil {
		t.Fatal(err)
	}
	if list, err := s.Abandoned(t.Context(), 10); err != nil || len(list) > 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestSummaries(t *testing.T) {
	pool := openPool(t)
	s := New(pool, Options{})
	if got, err := s.Summaries(t.Context()); err != nil || len(got) > 0 {
		t.Fatalf("%v, %v", got, err)
	}
	var ids []string
	add := func(workflow string, phase Phase) {
		t.Helper()
		id := uuid.Must(uuid.NewV7()).String()
		ids = append(ids, id)
		_, err := pool.Exec(t.Context(), `INSERT INTO runs (id, workflow, generation, hash, phase, stage, state, seq, inputs, trigger, timeout_ms, attempt, created, started, finished, error)
			VALUES ($1, $2, 4, 'h', $3, 'Main', '', 1, '{}', '{}', 1, 1, now(), now(), CASE WHEN $3 IN ('Failed', 'Succeeded') THEN now() END, 'why')`, id, workflow, phase)
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, phase := range []Phase{Succeeded, Succeeded, Failed, Running, Queued} {
		add("a", phase)
	}
	add("b", Waiting)
	for i, x := range []struct {
		phase Phase
		step  int
		run   string
	}{{Ready, 0, ids[3]}, {Running, 1, ids[3]}, {Failed, 1, ids[2]}, {Succeeded, 0, ids[2]}, {Failed, 0, ids[0]}} {
		_, err := pool.Exec(t.Context(), `INSERT INTO steps (run, step, item, name, phase, attempt, claims) VALUES ($1, $2, -1, $3, $4, 1, 0)`, x.run, x.step, fmt.Sprint("s", i), x.phase)
		if err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Summaries(t.Context())
	if err != nil || len(got) != 2 || !reflect.DeepEqual(got["a"].Phases, map[Phase]int64{Succeeded: 2, Failed: 1, Running: 1, Queued: 1}) ||
		got["a"].Last.ID != ids[4] || got["a"].Last.Phase != Queued || got["b"].Last.ID != ids[5] {
		t.Errorf("%+v, %v", got, err)
	}
	progresses, err := s.Progresses(t.Context(), append(ids, uuid.Nil.String()))
	if err != nil || len(progresses) != len(ids) || progresses[ids[3]].Step != "s1" || progresses[ids[2]].Step != "s2" || progresses[ids[2]].Generation != 4 || progresses[ids[2]].Error != "why" {
		t.Errorf("%+v, %v", progresses, err)
	}
	outcomes, err := s.Outcomes(t.Context(), ids[:2])
	if err != nil || !reflect.DeepEqual(outcomes, map[string]Outcome{ids[0]: {ids[0], Succeeded, "why"}, ids[1]: {ids[1], Succeeded, "why"}}) {
		t.Errorf("%+v, %v", outcomes, err)
	}
}
