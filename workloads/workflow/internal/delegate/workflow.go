// SPDX-License-Identifier: Apache-2.0

package delegate

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/workflow/internal/launch"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/delegated"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

// workflows starts other workflows.
type workflows struct {
	engine   Engine
	store    *store.Store
	launcher Launcher
}

func (w *workflows) begin(ctx context.Context, t *task) (map[string]any, error) {
	wait, _ := t.config["wait"].(bool)
	if wait {
		noted, err := w.store.Intend(ctx, t.delegation())
		if err != nil {
			return nil, err
		}
		if noted.Begun {
			t.target = noted.Target
			return nil, nil
		}
	}
	inputs, _ := t.config["inputs"].(map[string]any)
	started, err := w.launcher.Start(ctx, launch.Request{
		Workflow: text(t, "name"), Inputs: inputs, Key: "step/" + t.key,
		Info: definition.TriggerInfo{Type: delegated.TriggerType, Name: t.Workflow, Headers: map[string]string{
			delegated.DepthHeader: strconv.Itoa(t.depth), "run": t.Run, "step": t.Name,
		}},
	})
	if err != nil {
		return w.refused(t, err)
	}
	if !wait {
		return delegated.Answer(map[string]any{"run": started.ID}), nil
	}
	t.target = started.ID
	return nil, w.store.Begun(ctx, t.delegation())
}

// refused turns the launcher's errors into failures of the step, permanent if only an edit can fix them. Other errors are retried.
func (w *workflows) refused(t *task, err error) (map[string]any, error) {
	var input *definition.InputError
	message := fmt.Sprintf("workflow %s: %v", text(t, "name"), err)
	switch {
	case errors.Is(err, launch.ErrNoWorkflow), errors.Is(err, launch.ErrInvalidDefinition), errors.Is(err, backend.ErrInvalid), errors.As(err, &input):
		return delegated.Failure(message, true), nil
	case errors.Is(err, launch.ErrSuspended), errors.Is(err, store.ErrBusy):
		return delegated.Failure(message, false), nil
	}
	return nil, err
}

func (w *workflows) check(ctx context.Context, tasks []*task, answer func(*task, map[string]any)) error {
	ids := make([]string, 0, len(tasks))
	for _, t := range tasks {
		ids = append(ids, t.target)
	}
	outcomes, err := w.store.Outcomes(ctx, ids)
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range tasks {
		outcome, kept := outcomes[t.target]
		switch {
		case !kept:
			answer(t, delegated.Failure(fmt.Sprintf("run %s of workflow %s was deleted: raise its spec.history", t.target, text(t, "name")), true))
		case outcome.Phase == store.Succeeded:
			outputs, err := w.engine.Outputs(ctx, t.target)
			if errors.Is(err, backend.ErrUnavailable) {
				errs = append(errs, err)
				continue
			}
			if err != nil {
				answer(t, delegated.Failure(fmt.Sprintf("run %s of workflow %s: %v", t.target, text(t, "name"), err), true))
				continue
			}
			answer(t, delegated.Answer(map[string]any{"run": t.target, "outputs": outputs}))
		case outcome.Phase.Ended():
			answer(t, delegated.Failure(fmt.Sprintf("run %s of workflow %s ended as %s: %s", t.target, text(t, "name"), outcome.Phase, outcome.Error), false))
		}
	}
	return errors.Join(errs...)
}

// abandon cancels the run that the step waited for.
func (w *workflows) abandon(ctx context.Context, d store.Delegation) error {
	if d.Target == "" {
		return nil // it crashed before the run was recorded
	}
	err := w.engine.Cancel(ctx, d.Target, "the run that started it no longer waits for it")
	if errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}
