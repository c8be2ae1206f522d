// SPDX-License-Identifier: Apache-2.0

// Package delegated is the worker's half of the step types that need Kubernetes or the catalog of Workflows: pipeline, workflow and
// job. The worker has neither, so the step waits, with a description of the work in the detail of its wait. The service does the
// work (see package delegate) and resumes the step with an Answer or a Failure.
package delegated

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/itechsmart/operator/workloads/workflow/internal/engine"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/step"
)

// The step types.
const (
	TypePipeline = "pipeline"
	TypeWorkflow = "workflow"
	TypeJob      = "job"
)

// Field is the only field of a wait's detail, by which the store finds the steps. The others are fields of its value.
const (
	Field       = "delegate"
	FieldType   = "type"   // the type of the step
	FieldKey    = "key"    // the attempt's idempotency key
	FieldConfig = "config" // the evaluated `with`
	FieldDepth  = "depth"  // depth of the called workflow: 1 if the caller was not called itself
)

const (
	// TriggerType is the trigger type of runs that another workflow started; the trigger's name is that workflow's name.
	TriggerType = "Workflow"
	// DepthHeader is the header of such a trigger with the depth of the call.
	DepthHeader = "depth"
	// MaxDepth bounds the depth of calls, and so indirect recursion.
	MaxDepth = 10
)

// Longest is the longest wait of a step.
const Longest = 30 * 24 * time.Hour

// Answer returns the data to resume a successful step with.
func Answer(output any) map[string]any { return map[string]any{"output": output} }

// Failure returns the data to resume a failed step with. A permanent failure is not retried.
func Failure(message string, permanent bool) map[string]any {
	return map[string]any{"error": message, "permanent": permanent}
}

// Job describes the type job.
func Job() step.Spec {
	return spec(TypeJob, "Runs a Kubernetes Job, and returns its exit code and the end of its logs.", readJob)
}

// Pipeline describes the type pipeline.
func Pipeline() step.Spec {
	return spec(TypePipeline, "Starts or pauses a Pipeline, or waits until it is in a state.", readPipeline)
}

// Workflow describes the type workflow.
func Workflow() step.Spec {
	return spec(TypeWorkflow, "Starts another workflow, and optionally waits for its outputs.", readWorkflow)
}

// reader checks a `with`. It returns the step's timeout, and the error message for it.
type reader func(config *step.Config) (timeout time.Duration, late string)

func spec(name, summary string, read reader) step.Spec {
	return step.Spec{Type: name, Summary: summary, New: func(env step.Env) engine.Executor {
		return &executor{name: name, read: read, now: env.Now}
	}}
}

type executor struct {
	name string
	read reader
	now  func() time.Time
}

func (e *executor) Execute(ctx context.Context, call engine.Call) (engine.Result, error) {
	if err := ctx.Err(); err != nil {
		return engine.Result{}, err
	}
	config := step.Read(call.Config)
	timeout, late := e.read(config)
	if err := config.Err(); err != nil {
		return engine.Result{}, err
	}
	switch resumed := call.Resume; {
	case resumed == nil:
		return e.wait(call, timeout)
	case resumed.Event:
		return answered(resumed.Data)
	}
	return engine.Result{}, step.Refuse("%s", late)
}

func (e *executor) wait(call engine.Call, timeout time.Duration) (engine.Result, error) {
	detail := map[string]any{FieldType: e.name, FieldKey: call.Key, FieldConfig: call.Config}
	if e.name == TypeWorkflow {
		depth := Depth(call) + 1
		if depth > MaxDepth {
			return engine.Result{}, step.Refuse("with.name: workflows call each other more than %d levels deep; check for recursion", MaxDepth)
		}
		detail[FieldDepth] = int64(depth)
	}
	wait := &engine.Wait{Event: true, Detail: map[string]any{Field: detail}}
	if timeout > 0 {
		wait.Until = e.now().Add(timeout)
	}
	return engine.Result{Wait: wait}, nil
}

// Depth returns the depth of the call that started this run, or 0.
func Depth(call engine.Call) int {
	if call.Scope == nil || call.Scope.Trigger.Type != TriggerType {
		return 0
	}
	depth, err := strconv.Atoi(call.Scope.Trigger.Headers[DepthHeader])
	if err != nil {
		return MaxDepth // not written by the service
	}
	return depth
}

// answered returns the result of an Answer or a Failure.
func answered(data any) (engine.Result, error) {
	answer, ok := data.(map[string]any)
	if output, succeeded := answer["output"]; ok && succeeded {
		return engine.Result{Output: output}, nil
	}
	message, ok := answer["error"].(string)
	if !ok {
		return engine.Result{}, step.Refuse("the step was resumed with data that is not from the service")
	}
	if permanent, _ := answer["permanent"].(bool); permanent {
		return engine.Result{}, step.Refuse("%s", message)
	}
	return engine.Result{}, fmt.Errorf("%s", message)
}

func readWorkflow(config *step.Config) (time.Duration, string) {
	config.Required("name")
	config.Bool("wait")
	if inputs, ok := config.Any("inputs"); ok && inputs != nil {
		if _, object := inputs.(map[string]any); !object {
			config.Problem("inputs", "want an object, not %s", step.Kind(inputs))
		}
	}
	return 0, "the workflow did not end in time"
}

func readPipeline(config *step.Config) (time.Duration, string) {
	name := config.Required("name")
	action := config.Text("action", "")
	until := config.OneOf("until", "Running", "Paused", "Completed")
	timeout := config.Duration("timeout", 0, Longest)
	switch action {
	case "wait":
	case "start", "pause":
		for _, field := range []string{"until", "timeout"} {
			if config.Given(field) {
				config.Problem(field, "is only valid with action: wait")
			}
		}
	default:
		config.Problem("action", "want start, pause or wait")
	}
	return timeout, fmt.Sprintf("with.timeout: Pipeline %s was not %s within %s", name, until, timeout)
}

func readJob(config *step.Config) (time.Duration, string) {
	config.Required("image")
	config.Text("serviceAccount", "")
	config.Texts("env")
	for _, field := range []string{"command", "args"} {
		for _, item := range config.List(field) {
			if _, text := item.(string); !text {
				config.Problem(field, "want strings, not %s", step.Kind(item))
				break
			}
		}
	}
	if resources, ok := config.Any("resources"); ok && resources != nil {
		if _, object := resources.(map[string]any); !object {
			config.Problem("resources", "want an object, not %s", step.Kind(resources))
		}
	}
	timeout := config.Duration("timeout", 0, Longest)
	if timeout > 0 {
		timeout += grace
	}
	return timeout, "with.timeout: the Job did not end in time"
}

// grace is how long Kubernetes may take to stop a Job that timed out, and to report it.
const grace = 2 * time.Minute
