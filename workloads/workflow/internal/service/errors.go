// SPDX-License-Identifier: Apache-2.0

package service

import (
	"errors"
	"net/http"
	"time"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/workflow/internal/engine"
	"github.com/itechsmart/operator/workloads/workflow/internal/launch"
	"github.com/itechsmart/operator/workloads/workflow/internal/payloads"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

// retryAfter is the Retry-After while queue or database are unavailable.
const retryAfter = 5 * time.Second

// known maps errors to responses; the first match applies.
var known = []api.Known{
	{Err: launch.ErrNoWorkflow, Response: api.NotFound("workflow")},
	{Err: launch.ErrInvalidDefinition, Response: api.Error(http.StatusConflict, "not_proven", "the workflow's definition is invalid: see its problems")},
	{Err: launch.ErrSuspended, Response: api.Error(http.StatusConflict, "suspended", "the workflow is suspended by spec.suspend")},
	{Err: launch.ErrNoTrigger, Response: api.Invalid("body.trigger", "the workflow has no such trigger")},
	{Err: store.ErrBusy, Response: api.Error(http.StatusConflict, "busy", "the workflow has as many active runs as spec.concurrency allows")},
	{Err: store.ErrNotFound, Response: api.NotFound("run")},
	{Err: backend.ErrNotFound, Response: api.NotFound("run or step")},
	{Err: engine.ErrNoProgram, Response: api.Error(http.StatusConflict, "not_executable", "the definition that the run started with can no longer be executed")},
	{Err: payloads.ErrSpoiled, Response: api.Error(http.StatusGone, "gone", "the value in object storage was deleted or changed")},
	{Err: payloads.ErrTooMuch, Response: api.Error(http.StatusConflict, "too_large", "the outputs of all items are too large for one response: request each")},
	{Err: store.ErrConflict, Response: api.Conflict("the state of the run or the step does not allow this")},
	// The error's text has details for the workflow's author, and may quote the client's data.
	{Err: backend.ErrInvalid, Response: api.Invalid("body", "the workflow does not accept it: it is too large, a value has only the field $object, or an expression of the trigger or of spec.concurrency failed")},
	{Err: backend.ErrUnavailable, Response: api.Unavailable(retryAfter, "the queue, the database or object storage is unavailable; try again")},
}

// answer returns the response to an error of the launcher, the engine or the store.
func answer(err error) error {
	return api.Answer(err, known, func(err error) error {
		if input, ok := errors.AsType[*definition.InputError](err); ok {
			return api.Invalid("body."+input.Path, input.Message)
		}
		return nil
	})
}
