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

// sweepPayloadsEvery is the interval of garbage collection in object storage.
const sweepPayloadsEvery = time.Hour

// encode returns a value as JSON, if it is valid as an output.
func (e *Engine) encode(what string, value any) (json.RawMessage, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return nil, permanent("%s cannot be encoded as JSON: %w", what, err)
	}
	if err := payloads.CheckValue(data); err != nil {
		return nil, permanent("%s: %w", what, err)
	}
	check := e.store.CheckRow
	if e.payloads != nil {
		check = e.store.CheckOutput
	}
	if err := check(what, data); err != nil {
		return nil, &Permanent{err}
	}
	return data, nil
}

// encodeForRow is like encode, for a value that must fit into a row.
func (e *Engine) encodeForRow(what string, value any) (json.RawMessage, error) {
	data, err := e.encode(what, value)
	if err != nil {
		return nil, err
	}
	if err := e.store.CheckRow(what, data); err != nil {
		return nil, &Permanent{err}
	}
	return data, nil
}

// encoded is a large value that is decoded on first use: the decoded value takes several times the memory.
type encoded struct {
	data  json.RawMessage
	value any
}

// Load implements definition.Large.
func (w *encoded) Load() (any, error) {
	if w.data == nil {
		return w.value, nil
	}
	value, err := decode(w.data)
	if err == nil {
		w.value, w.data = value, nil
	}
	return value, err
}

// storeLarge returns what the row of a step stores for an output: the value itself, or a reference to object storage.
func (e *Engine) storeLarge(x *execution, data json.RawMessage) (json.RawMessage, error) {
	if !e.payloads.Large(len(data)) {
		return data, nil
	}
	name := fmt.Sprintf("%d-%d-%d", x.claimed.Step, x.claimed.Item, x.claimed.Attempt)
	return e.payloads.Put(x.ctx, x.run.ID, name, data, pause)
}

// storeBody replaces a large trigger body by a reference, and returns the folder that it refers to. The body is stored before the
// run is created.
func (e *Engine) storeBody(ctx context.Context, k *storedTrigger) (folders []string, err error) {
	if !e.payloads.Large(len(k.Body)) {
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
	// maxReads is how often a step that has not started tries to read before it releases its slot.
	maxReads = 4
	// minUnavailable is the shortest delay before such a step is tried again; the longest is twice that.
	minUnavailable = 5 * time.Second
)

// reader returns a Reader for one step. While object storage is unavailable the step waits instead of failing: it releases its slot
// if it has not started, and keeps it otherwise.
func (e *Engine) reader(x *execution) *payloads.Reader {
	again := func(ctx context.Context, n int) bool {
		if e.payloads == nil {
			e.noBucket.Do(func() {
				e.log.WarnContext(ctx, "a value is in object storage, which is not configured for this worker; steps wait", "run", x.run.ID, "step", x.step.Name())
			})
		}
		return (x.started || n < maxReads) && pause(ctx, n)
	}
	return e.payloads.Reader(x.ctx, Folders(x.run), e.largest(), again)
}

// largest bounds what one evaluation reads from object storage.
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

// open returns the result for expressions.
func (r result) open(reader *payloads.Reader) definition.StepResult {
	out := r.StepResult
	out.Output, out.Outputs = reader.Open(r.output), reader.Open(r.outputs)
	return out
}

// Output returns a step's complete output or named outputs as JSON. Item is -1 without forEach. It returns backend.ErrNotFound if
// there are none.
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

// Folders returns the folders in object storage that a run's rows may refer to.
func Folders(r *store.Run) []string { return append([]string{r.ID}, r.Objects...) }

// SweepPayloads deletes folders from object storage that no run refers to, as of the given time, and returns their number.
func (e *Engine) SweepPayloads(ctx context.Context, at time.Time) (int, error) {
	return e.payloads.Sweep(ctx, at, e.store.Unused)
}

// RunPayloads calls SweepPayloads each hour until ctx is done. Only one process needs to run it.
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
