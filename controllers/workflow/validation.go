// SPDX-License-Identifier: Apache-2.0

package workflow

import (
	"encoding/json"
	"errors"

	"k8s.io/apimachinery/pkg/util/validation/field"

	workflowv1alpha1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/validation"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

// stepNotify is a step type that nothing runs yet.
const stepNotify = "notify"

// check returns nil when a Workflow can run. It is called often, and compiles each generation once.
func (c *Controller) check(w *workflowv1alpha1.Workflow) error {
	if err := c.valid.Check(w); err != nil {
		return err
	}
	return available(&w.Spec)
}

// validate returns everything that is invalid in a Workflow: its graph, and each expression.
func validate(w *workflowv1alpha1.Workflow) field.ErrorList {
	err := compile(w)
	if err == nil {
		return nil
	}
	problems, ok := errors.AsType[*definition.Problems](err)
	if !ok {
		return field.ErrorList{validation.Errorf("spec", "%v", err)}
	}
	var out field.ErrorList
	for _, problem := range problems.List {
		out = append(out, validation.Errorf(problem.Path, "%s", problem.Message))
	}
	return out
}

// compile does what the service does with a definition before it starts runs.
func compile(w *workflowv1alpha1.Workflow) error {
	data, err := json.Marshal(&w.Spec)
	if err != nil {
		return err
	}
	parsed, err := definition.Parse(w.Name, data)
	if err != nil {
		return err
	}
	_, err = definition.Compile(parsed)
	return err
}

// available rejects step types whose product does not exist yet.
func available(spec *workflowv1alpha1.WorkflowSpec) error {
	for _, group := range []struct {
		path  string
		steps []workflowv1alpha1.Step
	}{{"steps", spec.Steps}, {"onSuccess", spec.OnSuccess}, {"onFailure", spec.OnFailure}, {"always", spec.Always}} {
		for i := range group.steps {
			if group.steps[i].Type == stepNotify {
				return reconcile.Stall(workflowv1alpha1.ReasonStepTypeUnavailable,
					"spec.%s[%d].type: notify needs Notify, which this operator does not have yet; remove the step, or use one of type http", group.path, i)
			}
		}
	}
	return nil
}
