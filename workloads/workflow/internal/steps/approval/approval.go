// SPDX-License-Identifier: Apache-2.0

// Package approval is the step type that waits for a decision. The service, which knows the users, checks who may decide.
package approval

import (
	"context"
	"time"

	"github.com/itechsmart/operator/workloads/workflow/internal/engine"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/step"
)

// Decisions, in field decision of Resume.Data and of the output: {decision, by, comment}.
const (
	Approve = "approve"
	Reject  = "reject"
)

const (
	maxTimeout   = 366 * 24 * time.Hour
	maxApprovers = 100
	maxMessage   = 4 << 10
)

// Spec describes the type.
func Spec() step.Spec {
	return step.Spec{
		Type: "approval", Summary: "Waits until one of its approvers approves or rejects, with a timeout.",
		New: func(env step.Env) engine.Executor { return &executor{now: env.Now} },
	}
}

type executor struct{ now func() time.Time }

type settings struct {
	timeout   time.Duration
	onTimeout string
	detail    map[string]any
}

func (e *executor) Execute(ctx context.Context, call engine.Call) (engine.Result, error) {
	if err := ctx.Err(); err != nil {
		return engine.Result{}, err
	}
	s, err := read(call.Config)
	if err != nil {
		return engine.Result{}, err
	}
	switch resumed := call.Resume; {
	case resumed == nil:
		wait := &engine.Wait{Event: true, Detail: s.detail}
		if s.timeout > 0 {
			wait.Until = e.now().Add(s.timeout)
		}
		return engine.Result{Wait: wait}, nil
	case resumed.Event:
		return decided(resumed.Data)
	}
	switch s.onTimeout {
	case Approve:
		return engine.Result{Output: outcome(Approve, "", "nobody decided in time", true)}, nil
	case Reject:
		return engine.Result{}, step.Refuse("rejected: nobody decided within %s", s.timeout)
	}
	return engine.Result{}, step.Refuse("with.timeout: nobody decided within %s", s.timeout)
}

func read(values map[string]any) (settings, error) {
	config := step.Read(values)
	approvers := config.List("approvers")
	message := config.Text("message", "")
	s := settings{timeout: config.Duration("timeout", 0, maxTimeout), onTimeout: config.OneOf("onTimeout", "fail", Approve, Reject)}
	if len(approvers) == 0 || len(approvers) > maxApprovers {
		config.Problem("approvers", "want 1 to %d users or roles", maxApprovers)
	}
	for _, who := range approvers {
		if name, ok := who.(string); !ok || name == "" {
			config.Problem("approvers", "want names of users or roles, not %s", step.Kind(who))
			break
		}
	}
	if len(message) > maxMessage {
		config.Problem("message", "has more than %d bytes", maxMessage)
	}
	if s.timeout == 0 && config.Given("onTimeout") {
		config.Problem("onTimeout", "needs a timeout")
	}
	s.detail = map[string]any{"approvers": approvers, "message": message, "onTimeout": s.onTimeout}
	return s, config.Err()
}

func outcome(decision, by, comment string, timedOut bool) map[string]any {
	return map[string]any{"decision": decision, "by": by, "comment": comment, "timedOut": timedOut}
}

// decided returns the result of a decision passed on by the service.
func decided(data any) (engine.Result, error) {
	answer, _ := data.(map[string]any)
	decision, _ := answer["decision"].(string)
	by, _ := answer["by"].(string)
	comment, _ := answer["comment"].(string)
	switch decision {
	case Approve:
		return engine.Result{Output: outcome(decision, by, comment, false)}, nil
	case Reject:
		if comment != "" {
			comment = ": " + comment
		}
		return engine.Result{}, step.Refuse("rejected by %s%s", by, comment)
	}
	return engine.Result{}, step.Refuse("event.decision: want %s or %s", Approve, Reject)
}
