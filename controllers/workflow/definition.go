// SPDX-License-Identifier: Apache-2.0

package workflow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	workflowv1alpha1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

// longestProblems limits the length of a message about problems, so that it fits into an event.
const longestProblems = 900

// stepNotify is a step type that nothing runs yet.
const stepNotify = "notify"

// proof is the result of checking one generation of a Workflow.
type proof struct {
	uid        types.UID
	generation int64
	err        error
}

// prove returns nil when a Workflow can run. It is called often, and compiles each generation once.
func (c *Controller) prove(w *workflowv1alpha1.Workflow) error {
	key := client.ObjectKeyFromObject(w)
	c.mu.Lock()
	last, known := c.proven[key]
	c.mu.Unlock()
	if known && last.uid == w.UID && last.generation == w.Generation {
		return last.err
	}
	err := compile(w)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.proven == nil {
		c.proven = map[client.ObjectKey]proof{}
	}
	c.proven[key] = proof{uid: w.UID, generation: w.Generation, err: err}
	return err
}

// Forget drops what is remembered of a Workflow that no longer exists.
func (c *Controller) Forget(key client.ObjectKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.proven, key)
}

func compile(w *workflowv1alpha1.Workflow) error {
	err := sound(w)
	if problems, ok := errors.AsType[*definition.Problems](err); ok {
		return reconcile.Stall(common.ReasonInvalidSpec, "%s", describe(problems.List))
	}
	if err != nil {
		return reconcile.Stall(common.ReasonInvalidSpec, "%v", err)
	}
	return available(&w.Spec)
}

// admit rejects a Workflow that could never run. Conditions report what another resource or a later version may fix.
func admit(_ context.Context, w *workflowv1alpha1.Workflow) error {
	err := sound(w)
	problems, ok := errors.AsType[*definition.Problems](err)
	if !ok {
		return err
	}
	var list field.ErrorList
	for _, problem := range problems.List {
		list = append(list, &field.Error{Type: field.ErrorTypeInvalid, Field: problem.Path, BadValue: field.OmitValueType{}, Detail: problem.Message})
	}
	return apierrors.NewInvalid(workflowv1alpha1.GroupVersion.WithKind("Workflow").GroupKind(), w.Name, list)
}

// sound checks the graph and every expression. *definition.Problems lists all that is wrong.
func sound(w *workflowv1alpha1.Workflow) error {
	data, err := json.Marshal(&w.Spec)
	if err != nil {
		return fmt.Errorf("spec: %w", err)
	}
	parsed, err := definition.Parse(w.Name, data)
	if err != nil {
		return err
	}
	_, err = definition.Compile(parsed)
	return err
}

// describe lists all problems; where there are too many, only the paths of the rest.
func describe(problems []definition.Problem) string {
	var out strings.Builder
	for i, problem := range problems {
		text := problem.Path
		if out.Len() < longestProblems/2 || i == 0 {
			text += ": " + problem.Message
		}
		if i > 0 {
			text = "; " + text
		}
		if i > 0 && out.Len()+len(text) > longestProblems {
			fmt.Fprintf(&out, "; and %d more", len(problems)-i)
			break
		}
		out.WriteString(text)
	}
	return out.String()
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
