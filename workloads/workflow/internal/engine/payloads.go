// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/workflow/internal/payloads"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

// sweepPayloadsEvery is the interval at which object storage is swept.
const sweepPayloadsEvery = time.Hour

// encode returns a value as JSON, if it may be an output.
func (e *Engine) encode(what string, value any) (json.RawMessage, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return nil, permanent("%s is no JSON: %w", what, err)
	}
	if err := payloads.CheckValue(data); err != nil {
		return nil, permanent("%s: %w", what, err)
	}
	check := e.store.CheckKept
	if e.payloads != nil {
		check = e.store.CheckOutput
	}
	if err := check(what, data); err != nil {
		return nil, &Permanent{err}
	}
	return data, nil
}

// encodeKept is the same for what stays in the database.
func (e *Engine) encodeKept(what string, value any) (json.RawMessage, error) {
	data, err := e.encode(what, value)
	if err != nil {
		return nil, err
	}
	if err := e.store.CheckKept(what, data); err != nil {
		return nil, &Permanent{err}
	}
	return data, nil
}

// written is a large value that is read again only if somebody looks at it: that takes several times its memory.
type written struct {
	data  json.RawMessage
	value any
}

// Load implements definition.Large.
func (w *written) Load() (any, error) {
	if w.data == nil {
		return w.value, nil
	}
	value, err := decode(w.data)
	if err == nil {
		w.value, w.data = value, nil
	}
	return value, err
}

// keepLarge returns what stands in the row of a step for an output: itself, or where it is.
func (e *Engine) keepLarge(x *execution, data json.RawMessage) (json.RawMessage, error) {
	if !e.payloads.Takes(len(data)) {
		return data, nil
	}
	name := fmt.Sprintf("%d-%d-%d", x.claimed.Step, x.claimed.Item, x.claimed.Attempt)
	return e.payloads.Put(x.ctx, x.run.ID, name, data, pause)
}

// keepBody returns what stands in the row of a run for its trigger's body, and the folder that it refers to. The body is there
// before the run is.
func (e *Engine) keepBody(ctx context.Context, k *kept) (folders []string, err error) {
	if !e.payloads.Takes(len(k.Body)) {
		return nil, nil
	}
	if err := e.store.CheckOutput("trigger.body", k.Body); err != nil {
		return nil, fmt.Errorf("trigger: %w: %w", backend.ErrInvalid, err)
	}
	folder, err := payloads.NewFolder()
	if err != nil {
		return nil, err
	}
	k.Body, err = e.payloads.Put(ctx, folder, "body", k.Body, nil)
	return []string{folder}, err
}

const (
	// patience is how many times a step that has not begun tries to read before it makes way for others.
	patience = 4
	// awayFor is for how long at least, and for twice that at most.
	awayFor = 5 * time.Second
)

// reader reads for one step, which waits rather than fails when object storage is unavailable: without a place until it has begun, and
// in its place from then on.
func (e *Engine) reader(x *execution) *payloads.Reader {
	again := func(ctx context.Context, n int) bool {
		if e.payloads == nil {
			e.noBucket.Do(func() {
				e.log.WarnContext(ctx, "a value is in object storage, and none is configured here: steps wait", "run", x.run.ID, "step", x.step.Name())
			})
		}
		return (x.begun || n < patience) && pause(ctx, n)
	}
	return e.payloads.Reader(x.ctx, Folders(x.run), e.largest(), again)
}

// largest bounds what one evaluation reads of object storage.
func (e *Engine) largest() int { return 2 * e.store.Options().MaxOutput }

// result is the stored outcome of a step.
type result struct {
	definition.StepResult
	output, outputs payloads.Value
}

func (v *view) result(s store.Step) (r result, err error) {
	r.StepResult = definition.StepResult{Status: string(s.Phase), Error: s.Error, Attempts: s.Attempt}
	var errNamed error
	r.output, err = payloads.Parse(s.Output, v.program.Step(s.Step).ForEach(), Folders(v.run))
	r.outputs, errNamed = payloads.Parse(s.Outputs, false, Folders(v.run))
	return r, errors.Join(err, errNamed)
}

// open returns the result as expressions take it.
func (r result) open(reader *payloads.Reader) definition.StepResult {
	out := r.StepResult
	out.Output, out.Outputs = reader.Open(r.output), reader.Open(r.outputs)
	return out
}

// Output returns what a step gave, whole, as JSON: its output, or its named outputs. Item is -1 without forEach. backend.ErrNotFound:
// it gave none.
func (e *Engine) Output(ctx context.Context, run, step string, item int, named bool) (json.RawMessage, error) {
	r, p, i, err := e.find(ctx, run, step)
	if err != nil {
		return nil, err
	}
	s, err := e.store.StepAt(ctx, run, i, item)
	if err != nil {
		return nil, err
	}
	data := s.Output
	if named {
		data = s.Outputs
	}
	if data == nil {
		return nil, fmt.Errorf("step %s has no such output: %w", step, backend.ErrNotFound)
	}
	reader := e.payloads.Reader(ctx, Folders(&r), e.store.Options().MaxOutput, nil)
	defer reader.Close()
	return reader.Whole(data, !named && item < 0 && p.Step(i).ForEach())
}

// Folders returns those of object storage that a run's rows may refer to.
func Folders(r *store.Run) []string { return append([]string{r.ID}, r.Objects...) }

// SweepPayloads deletes what no run refers to from object storage, as if it were at a time, and tells how many folders.
func (e *Engine) SweepPayloads(ctx context.Context, at time.Time) (int, error) {
	return e.payloads.Sweep(ctx, at, e.store.Unused)
}

// RunPayloads sweeps object storage each hour until ctx ends. One process does.
func (e *Engine) RunPayloads(ctx context.Context) {
	if e.payloads == nil {
		return
	}
	ticker := time.NewTicker(sweepPayloadsEvery)
	defer ticker.Stop()
	for {
		if n, err := e.SweepPayloads(ctx, e.clock.Now()); err != nil && ctx.Err() == nil {
			e.log.WarnContext(ctx, "could not sweep object storage", "deleted", n, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
