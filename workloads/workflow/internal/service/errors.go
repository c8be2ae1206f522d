// SPDX-License-Identifier: Apache-2.0

package service

import (
	"errors"
	"net/http"
	"time"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/internal/api/problem"
	"github.com/itechsmart/operator/workloads/internal/db"
	"github.com/itechsmart/operator/workloads/workflow/internal/engine"
	"github.com/itechsmart/operator/workloads/workflow/internal/launch"
	"github.com/itechsmart/operator/workloads/workflow/internal/payloads"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

// retryAfter is when to come again while queue or database take nothing.
const retryAfter = 5 * time.Second

// known are errors as answers, in the order in which they are looked for.
var known = []struct {
	err           error
	status        int
	code, message string
}{
	{launch.ErrNoWorkflow, http.StatusNotFound, "not_found", "no such workflow"},
	{launch.ErrNotProven, http.StatusConflict, "not_proven", "the workflow's definition is wrong: its problems tell what"},
	{launch.ErrSuspended, http.StatusConflict, "suspended", "the workflow is suspended: spec.suspend says so"},
	{store.ErrBusy, http.StatusConflict, "busy", "the workflow runs as often as spec.concurrency lets it"},
	{store.ErrNotFound, http.StatusNotFound, "not_found", "no such run"},
	{backend.ErrNotFound, http.StatusNotFound, "not_found", "no such run or step"},
	{engine.ErrNoProgram, http.StatusConflict, "not_executable", "the definition that the run began with cannot be executed any more"},
	{payloads.ErrSpoiled, http.StatusGone, "gone", "the value is not in object storage any more as it was kept"},
	{payloads.ErrTooMuch, http.StatusConflict, "too_large", "the outputs of all items are more than is given at a time: ask for each"},
	{store.ErrConflict, http.StatusConflict, "conflict", "the run or the step is not in a state in which this can be done"},
}

// answer makes an error of launcher, engine or store an answer.
func answer(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*problem.Error](err); ok {
		return err
	}
	if input, ok := errors.AsType[*definition.InputError](err); ok {
		return api.Invalid("body."+input.Path, input.Message)
	}
	if errors.Is(err, launch.ErrNoTrigger) {
		return api.Invalid("body.trigger", "the workflow has no such trigger")
	}
	for _, k := range known {
		if errors.Is(err, k.err) {
			return api.Because(api.Error(k.status, k.code, k.message), err)
		}
	}
	switch {
	case errors.Is(err, backend.ErrInvalid):
		// The text tells fields and bounds of the workflow's author, and may quote what came.
		return api.Because(api.Invalid("body", "the workflow does not take it: it is too large, a value has the field $object alone, or an expression of the trigger or of spec.concurrency fails on it"), err)
	case errors.Is(err, backend.ErrUnavailable):
		return api.Because(api.Unavailable(retryAfter, "queue, database or object storage take nothing now; try again"), err)
	case db.Unavailable(err):
		return api.Because(api.Unavailable(retryAfter, "the database does not answer; try again"), err)
	default:
		return err
	}
}
