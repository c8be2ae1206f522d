// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/s3"
	"github.com/itechsmart/operator/workloads/workflow/internal/payloads"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

// sweepAll sweeps as if everything were older than an hour, and returns the number of deleted folders.
func (r *harness) sweepAll() int {
	r.t.Helper()
	n, err := r.SweepPayloads(r.t.Context(), time.Now().Add(2*time.Hour))
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

// prune deletes all but the newest runs of the workflow.
func (r *harness) prune(keep int) {
	r.t.Helper()
	if _, err := r.Store().Prune(r.t.Context(), "w", store.Retention{Successful: keep, Failed: keep}, 1000); err != nil {
		r.t.Fatal(err)
	}
}

// dying is a bucket whose first Put stores the object and then fails, as if the writer crashed.
type dying struct {
	*s3.Fake
	dead atomic.Bool
}

func (d *dying) Put(ctx context.Context, key string, data []byte) error {
	err := d.Fake.Put(ctx, key, data)
	if d.dead.CompareAndSwap(false, true) {
		return errors.Join(err, backend.ErrUnavailable)
	}
	return err
}

// TestSweepDeletesOrphans: unreferenced objects are deleted, and referenced ones stay.
func TestSweepDeletesOrphans(t *testing.T) {
	bucket := &dying{Fake: s3.NewFake()}
	r := launch(t, Options{Executor: (&script{}).on("a", large), Bucket: bucket, Store: store.Options{MaxOutput: 8 << 20}})
	foreign := []string{"019a0000-0000-7000-8000-000000000000.019a0000-0000-7000-8000-000000000001/x", "019a0000-0000-7000-8000-000000000002/x", "zzz/x"}
	owner, err := r.Store().Owner(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	foreign = append(foreign, owner+".notes/x", owner+".6ba7b810-9dad-11d1-80b4-00c04fd430c8/x")
	for _, key := range foreign {
		if err := bucket.Fake.Put(t.Context(), key, []byte("theirs")); err != nil {
			t.Fatal(err)
		}
	}
	begin := Start{Workflow: "w", Program: parse(t, `{"steps":[{"name":"a","type":"x"},{"name":"b","type":"x","needs":["a"],
		"with":{"value":"${{ size(steps.a.output.text) + size(trigger.body) }}"}}]}`), Trigger: definition.TriggerInfo{Body: mega}}
	if _, _, err := r.Start(t.Context(), begin); !errors.Is(err, backend.ErrUnavailable) { // crashed before the run existed
		t.Fatal(err)
	}
	id, _, err := r.Start(t.Context(), begin)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Payloads().Put(t.Context(), id, "0--1-1", []byte(mega), nil); err != nil { // a worker crashed before the outcome was recorded
		t.Fatal(err)
	}
	r.wait(id, store.Succeeded)
	if got := len(bucket.Keys()) - len(foreign); got != 4 {
		t.Errorf("%d objects, want two that are referenced and two that are not: %q", got, bucket.Keys())
	}
	if n, err := r.SweepPayloads(t.Context(), time.Now()); err != nil || n != 0 {
		t.Errorf("%d folders younger than an hour were deleted, %v", n, err)
	}
	if n := r.sweepAll(); n != 1 {
		t.Errorf("%d folders were deleted, want only the body without a run", n)
	}
	again, _, err := r.Rerun(t.Context(), id, "b", "")
	if err != nil {
		t.Fatal(err)
	}
	r.wait(again, store.Succeeded)
	r.prune(0)
	if n := r.sweepAll(); n != 2 {
		t.Errorf("%d folders were deleted, want those of the run and of its body", n)
	}
	left := bucket.Keys()
	slices.Sort(foreign)
	if !slices.Equal(left, foreign) {
		t.Errorf("remaining: %q, want the foreign objects: %q", left, foreign)
	}
}

// TestRerunKeepsInheritedObjects: a re-run's objects stay although its original run is pruned, and that one's original too.
func TestRerunKeepsInheritedObjects(t *testing.T) {
	r, bucket := withBucket(t, (&script{}).on("a", large))
	begin := Start{Workflow: "w", Program: parse(t, `{"steps":[{"name":"a","type":"x"},{"name":"b","type":"x","needs":["a"],
		"with":{"value":"${{ size(steps.a.output.text) + size(trigger.body) }}"}}]}`), Trigger: definition.TriggerInfo{Body: mega}}
	id, _, err := r.Start(t.Context(), begin)
	if err != nil {
		t.Fatal(err)
	}
	r.wait(id, store.Succeeded)
	for range 2 {
		origin := id
		if id, _, err = r.Rerun(t.Context(), origin, "b", ""); err != nil {
			t.Fatal(err)
		}
		r.wait(id, store.Succeeded)
		r.prune(1)
		if _, err := r.Store().Get(t.Context(), origin); !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("the original run still exists: %v", err)
		}
		r.sweepAll()
		if id, _, err = r.Rerun(t.Context(), id, "b", ""); err != nil {
			t.Fatal(err)
		}
		r.wait(id, store.Succeeded)
		wantOutput(t, r.steps(id)["b"], fmt.Sprint(2*len(mega)))
	}
	r.prune(0)
	if r.sweepAll(); len(bucket.Keys()) > 0 {
		t.Errorf("remaining: %q", bucket.Keys())
	}
}

// TestRerunOfPrunedRun: the original run is pruned between the check and the start.
func TestRerunOfPrunedRun(t *testing.T) {
	r, _ := withBucket(t, &script{})
	id := r.start(`{"steps":[{"name":"a","type":"x"}]}`, nil)
	run := r.wait(id, store.Succeeded)
	r.prune(0)
	_, _, err := r.Store().Start(t.Context(), store.NewRun{Workflow: "w", Hash: run.Hash, Graph: newProgram(parse(t, `{"steps":[{"name":"a","type":"x"}]}`)).graph,
		Inputs: run.Inputs, Trigger: run.Trigger, Timeout: time.Hour, RerunOf: id, RerunFrom: "a"})
	if !errors.Is(err, store.ErrNotFound) {
		t.Errorf("err = %v", err)
	}
}

// TestSweepPages: there are more folders than one page, and the bucket fails in the middle.
func TestSweepPages(t *testing.T) {
	bucket := s3.NewFake()
	s := payloads.New(bucket, func(context.Context) (string, error) { return "o", nil }, New(Options{}).log)
	const folders = 1203
	for range folders {
		folder, err := payloads.NewFolder()
		if err == nil {
			err = bucket.Put(t.Context(), "o."+folder+"/x", []byte("1"))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	kept := bucket.Keys()[700]
	unused := func(_ context.Context, of []string) ([]string, error) {
		return slices.DeleteFunc(of, func(folder string) bool { return strings.Contains(kept, folder) }), nil
	}
	bucket.Fail("DeleteFolder", backend.ErrUnavailable)
	if n, err := s.Sweep(t.Context(), time.Now().Add(2*time.Hour), unused); n != 0 || !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("%d folders were deleted, %v", n, err)
	}
	bucket.Fail("DeleteFolder", nil)
	if n, err := s.Sweep(t.Context(), time.Now().Add(2*time.Hour), unused); n != folders-1 || err != nil || !slices.Equal(bucket.Keys(), []string{kept}) {
		t.Errorf("%d folders were deleted, %v; %d objects remain", n, err, len(bucket.Keys()))
	}
}
