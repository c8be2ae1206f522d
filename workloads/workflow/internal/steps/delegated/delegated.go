// SPDX-License-Identifier: Apache-2.0

// Package delegated is the worker's half of the step types that need Kubernetes, or the catalogue of Workflows: pipeline,
// workflow and job. The worker has neither, so the step waits, and tells what is to be done in the detail of its wait. The
// service does it (see package delegate) and resumes the step with an Answer.
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

// Field is the one field of a wait's detail: the store finds the steps by it. The others are its own.
const (
	Field       = "delegate"
	FieldType   = "type"   // the step's
	FieldKey    = "key"    // the attempt's idempotency key
	FieldConfig = "config" // the rendered `with`
	FieldDepth  = "depth"  // of a workflow that is called: 1 when no workflow called the caller
)

const (
	// TriggerType is the type of the trigger of a run that another workflow started; its name is that workflow's.
	TriggerType = "Workflow"
	// DepthHeader is the header of such a trigger that tells how many workflows called one another before it.
	DepthHeader = "depth"
	// MaxDepth bounds that: a workflow that calls itself by way of others ends there.
	MaxDepth = 10
)

// Longest is the longest wait of a step.
const Longest = 30 * 24 * time.Hour

// Answer returns what the service resumes a step with.
func Answer(output any) map[string]any { return map[string]any{"output": output} }

// Failure returns what the service resumes a step with that failed; permanent: another attempt would meet it again.
func Failure(message string, permanent bool) map[string]any {
	return map[string]any{"error": message, "permanent": permanent}
}

// Job describes the type job.
func Job() step.Spec {
	return spec(TypeJob, "Runs a Kubernetes Job, and gives its exit code and the end of its logs.", readJob)
}

// Pipeline describes the type pipeline.
func Pipeline() step.Spec {
	return spec(TypePipeline, "Starts or pauses a Pipeline, or waits for a state of it.", readPipeline)
}

// Workflow describes the type workflow.
func Workflow() step.Spec {
	return spec(TypeWorkflow, "Starts another workflow, and takes its outputs when it waits for its end.", readWorkflow)
}

// reader checks a `with`; timeout is how long the step waits at most, and late what to say then.
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
			return engine.Result{}, step.Refuse("with.name: workflows call one another %d deep already; is this one called by those that it calls?", MaxDepth)
		}
		detail[FieldDepth] = int64(depth)
	}
	wait := &engine.Wait{Event: true, Detail: map[string]any{Field: detail}}
	if timeout > 0 {
		wait.Until = e.now().Add(timeout)
	}
	return engine.Result{Wait: wait}, nil
}

// Depth returns how many workflows called one another until this run.
func Depth(call engine.Call) int {
	if call.Scope == nil || call.Scope.Trigger.Type != TriggerType {
		return 0
	}
	depth, err := strconv.Atoi(call.Scope.Trigger.Headers[DepthHeader])
	if err != nil {
		return MaxDepth // no service of ours wrote it
	}
	return depth
}

// answered reads what the service resumed the step with.
func answered(data any) (engine.Result, error) {
	answer, ok := data.(map[string]any)
	if output, gives := answer["output"]; ok && gives {
		return engine.Result{Output: output}, nil
	}
	message, ok := answer["error"].(string)
	if !ok {
		return engine.Result{}, step.Refuse("the step was resumed by something that is no answer of the service")
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
				config.Problem(field, "goes with action: wait alone")
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

// grace is how long Kubernetes has to end a Job that timed out, and to report it.
const grace = 2 * time.Minute
