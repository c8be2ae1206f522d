// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/itechsmart/operator/workloads/workflow/internal/store"
)

const boundedSpec = `{"inputs":[{"name":"k","type":"string"}],"concurrency":{"max":%d,"policy":"%s","key":"inputs.k"},"steps":[{"name":"slow","type":"x"}]}`

func bounded(most int, policy string) string { return fmt.Sprintf(boundedSpec, most, policy) }

func TestConcurrency(t *testing.T) {
	gate := make(chan struct{})
	s := (&script{}).on("slow", func(ctx context.Context, _ Call) (Result, error) {
		select {
		case <-gate:
			return Result{}, nil
		case <-ctx.Done():
			return Result{}, ctx.Err()
		}
	})
	r := launch(t, Options{Executor: s})
	key := func(k string) map[string]any { return map[string]any{"k": k} }
	spec := bounded(2, "Queue")
	var queued []string
	for range 5 {
		queued = append(queued, r.start(spec, key("queue")))
	}
	other := r.start(spec, key("other"))
	r.g.Eventually(func() int { return len(s.callsTo("slow")) }, long).Should(Equal(3))
	for i, id := range queued {
		if i >= 2 {
			r.wait(id, store.Queued)
		}
	}
	r.wait(other, store.Running)

	skip := bounded(1, "Skip")
	first := r.start(skip, key("skip"))
	_, _, err := r.Start(t.Context(), Start{Workflow: "w", Program: parse(t, skip), Inputs: key("skip")})
	if !errors.Is(err, store.ErrBusy) {
		t.Errorf("start above the limit: %v, want ErrBusy", err)
	}

	newest := bounded(1, "CancelPrevious")
	old := r.start(newest, key("cancel"))
	r.wait(old, store.Running)
	fresh := r.start(newest, key("cancel"))
	if run := r.wait(old, store.Cancelled); run.Error != "a newer run took its place" {
		t.Errorf("error of the older run = %q", run.Error)
	}
	r.wait(fresh, store.Running)
	// A queued run is canceled without having started.
	if err := r.Cancel(t.Context(), queued[4], "not needed"); err != nil {
		t.Fatal(err)
	}
	r.wait(queued[4], store.Cancelled)
	close(gate)
	for _, id := range append(queued[:4], other, first, fresh) {
		r.wait(id, store.Succeeded)
	}
	if s.most["slow"] > 5 {
		t.Errorf("%d ran concurrently, want at most 5", s.most["slow"])
	}
}

func TestHistory(t *testing.T) {
	s := (&script{}).on("fails", failing)
	r := launch(t, Options{Executor: s})
	good := `{"history":{"successful":2,"failed":1,"ttl":"1h"},"inputs":[{"name":"v","type":"string"}],"steps":[{"name":"%s","type":"x"}]}`
	var ids []string
	for range 4 {
		id := r.start(fmt.Sprintf(good, "a"), nil)
		r.wait(id, store.Succeeded)
		ids = append(ids, id)
	}
	failed := r.start(fmt.Sprintf(good, "fails"), nil)
	r.wait(failed, store.Failed)
	if err := r.Prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	list, more, err := r.Store().List(t.Context(), store.ListOptions{Workflow: "w", Limit: 2})
	if err != nil || !more || len(list) != 2 || list[0].ID != failed || list[1].ID != ids[3] {
		t.Fatalf("first page = %+v, more %t, %v", list, more, err)
	}
	list, more, err = r.Store().List(t.Context(), store.ListOptions{Workflow: "w", Before: list[1].ID})
	if err != nil || more || len(list) != 1 || list[0].ID != ids[2] {
		t.Errorf("second page = %+v, more %t, %v", list, more, err)
	}
	if n, err := r.Store().Prune(t.Context(), "w", store.Retention{Successful: 10, Failed: 10, TTL: time.Nanosecond}, 100); err != nil || n != 3 {
		t.Errorf("pruned %d, %v; want all 3", n, err)
	}
	if events, err := r.Store().Events(t.Context(), ids[3], 0, 0); err != nil || len(events) != 0 {
		t.Errorf("%d events remain, %v", len(events), err)
	}
}

func TestFollow(t *testing.T) {
	s := (&script{}).on("ask", func(_ context.Context, c Call) (Result, error) {
		if c.Resume == nil {
			return Result{Wait: &Wait{Event: true}}, nil
		}
		return Result{}, nil
	})
	r := launch(t, Options{Executor: s})
	id := r.start(`{"steps":[{"name":"ask","type":"x"},{"name":"b","type":"x","needs":["ask"]}]}`, nil)
	var mu sync.Mutex
	got := [3][]store.Event{}
	var group sync.WaitGroup
	for i := range got {
		group.Go(func() {
			err := r.Store().Follow(t.Context(), id, int64(i), func(e store.Event) error {
				mu.Lock()
				defer mu.Unlock()
				got[i] = append(got[i], e)
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	r.g.Eventually(func() bool {
		mu.Lock()
		defer mu.Unlock()
		return slices.ContainsFunc(got[2], func(e store.Event) bool { return e.Kind == store.EventStepWaiting })
	}, long).Should(BeTrue())
	if err := r.Resume(t.Context(), id, "ask", -1, nil); err != nil {
		t.Fatal(err)
	}
	group.Wait()
	run := r.wait(id, store.Succeeded)
	for i, events := range got {
		if len(events) != int(run.Seq)-i {
			t.Fatalf("follower %d got %d events, want %d", i, len(events), int(run.Seq)-i)
		}
		for n, e := range events {
			if e.Seq != int64(n+i+1) {
				t.Errorf("follower %d: event %d has sequence number %d", i, n, e.Seq)
			}
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	waits := r.start(`{"steps":[{"name":"ask","type":"x"}]}`, nil)
	if err := r.Store().Follow(ended, waits, 0, func(store.Event) error { return nil }); err == nil {
		t.Error("Follow returned no error after its context ended")
	}
}
