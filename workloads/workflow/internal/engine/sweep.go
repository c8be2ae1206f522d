// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/itechsmart/operator/workloads/workflow/internal/store"
)

const (
	// sweepAtOnce bounds one query; a query that finds as many is repeated.
	sweepAtOnce = 256
	// janitorEvery is the interval at which the history is pruned.
	janitorEvery = time.Minute
	pruneAtOnce  = 200
)

// sweep handles what is due: waits that end, expired leases, runs past their deadline, queued runs that may start, and the outbox.
// Every engine sweeps. If two engines find the same change, only one makes it, since it is decided under the run's lock.
func (e *Engine) sweep(ctx context.Context) {
	ticker := time.NewTicker(e.options.Sweep)
	defer ticker.Stop()
	var outbox time.Time
	for failures := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-e.admit:
		}
		err := errors.Join(e.sweepSteps(ctx), e.sweepRuns(ctx), e.sweepQueued(ctx))
		if now := time.Now(); err == nil && now.Sub(outbox) >= sweepOutbox && e.options.Queue.Connected() {
			outbox = now
			err = e.sweepUnpublished(ctx)
		}
		if err == nil || ctx.Err() != nil {
			failures = 0
			continue
		}
		e.log.WarnContext(ctx, "could not process due work", "error", err)
		pause(ctx, failures)
		failures++
	}
}

// workAll works on all results of a query at once, so that their transactions commit together. More reports whether to repeat the
// query.
func workAll[T any](list []T, err error, work func(T) error) (more bool, _ error) {
	if err != nil {
		return false, err
	}
	errs := make([]error, len(list))
	var group sync.WaitGroup
	for i, x := range list {
		group.Go(func() { errs[i] = work(x) })
	}
	group.Wait()
	for i, err := range errs {
		if errors.Is(err, store.ErrLost) || errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrNotFound) {
			errs[i] = nil // another engine was faster
		}
	}
	err = errors.Join(errs...)
	return err == nil && len(list) == sweepAtOnce, err
}

func (e *Engine) sweepSteps(ctx context.Context) error {
	for more := true; more; {
		list, err := e.store.DueSteps(ctx, sweepAtOnce)
		more, err = workAll(list, err, func(d store.DueStep) error {
			p, err := e.programs.get(ctx, d.Workflow, d.Hash)
			if errors.Is(err, ErrNoProgram) {
				return e.abort(ctx, d.ID, err)
			}
			if err != nil {
				return err
			}
			_, err = e.store.Apply(ctx, store.Wake{Target: p.target(d.ID, d.Step, d.Item)})
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) sweepRuns(ctx context.Context) error {
	for more := true; more; {
		list, err := e.store.DueRuns(ctx, sweepAtOnce)
		more, err = workAll(list, err, func(r store.RunRef) error {
			return e.stop(ctx, r, store.Stop{Phase: store.TimedOut, Due: true})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) sweepQueued(ctx context.Context) error {
	for more := true; more; {
		list, err := e.store.Admissible(ctx, sweepAtOnce)
		more, err = workAll(list, err, func(r store.RunRef) error {
			p, err := e.programs.get(ctx, r.Workflow, r.Hash)
			if errors.Is(err, ErrNoProgram) {
				return e.abort(ctx, r.ID, err)
			}
			if err != nil {
				return err
			}
			return e.store.Admit(ctx, p.target(r.ID, -1, -1))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// janitor calls Prune periodically.
func (e *Engine) janitor(ctx context.Context) {
	ticker := time.NewTicker(janitorEvery)
	defer ticker.Stop()
	for {
		if err := e.Prune(ctx); err != nil && ctx.Err() == nil {
			e.log.WarnContext(ctx, "could not prune the history", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Prune deletes the runs that the history settings of their workflow's newest definition do not retain. Run calls it each minute.
func (e *Engine) Prune(ctx context.Context) error {
	after := ""
	for {
		list, err := e.store.Workflows(ctx, after, pruneAtOnce)
		if err != nil || len(list) == 0 {
			return err
		}
		for _, w := range list {
			after = w.Workflow
			p, err := e.programs.get(ctx, w.Workflow, w.Hash)
			if errors.Is(err, ErrNoProgram) {
				continue // its history settings are unknown
			}
			if err != nil {
				return err
			}
			for n := pruneAtOnce; n == pruneAtOnce; {
				if n, err = e.store.Prune(ctx, w.Workflow, history(p.Program), pruneAtOnce); err != nil {
					return err
				}
			}
		}
	}
}
