// SPDX-License-Identifier: Apache-2.0

package delegate

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/itechsmart/operator/workloads/workflow/internal/steps/delegated"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
)

// pipelineResource is DataFlow's kind, accessed without its Go types: products depend on each other's API only.
var pipelineResource = schema.GroupVersionResource{Group: "dataflow.itechsmart.dev", Version: "v1alpha1", Resource: "pipelines"}

// pipelines starts and pauses Pipelines, and waits for their phases.
type pipelines struct{ *cluster }

func (p *pipelines) begin(ctx context.Context, t *task) (map[string]any, error) {
	action := text(t, "action")
	if action == "wait" {
		return nil, nil
	}
	patch := fmt.Appendf(nil, `{"spec":{"paused":%t}}`, action == "pause")
	name := text(t, "name")
	_, err := p.dynamic.Resource(pipelineResource).Namespace(p.namespace).Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		return refused("Pipeline "+name, err)
	}
	return delegated.Answer(map[string]any{"name": name, "paused": action == "pause"}), nil
}

// refused turns an error that a retry cannot fix into a failure of the step, and returns any other error.
func refused(what string, err error) (map[string]any, error) {
	status := apierrors.APIStatus(nil)
	switch {
	case apierrors.IsNotFound(err):
		return delegated.Failure(what+" does not exist", true), nil
	case apierrors.IsForbidden(err), apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsMethodNotSupported(err):
		errors.As(err, &status)
		return delegated.Failure(fmt.Sprintf("%s: rejected by the API server: %s", what, status.Status().Message), true), nil
	}
	return nil, fmt.Errorf("%s: %w", what, err)
}

// check reads each Pipeline once, however many steps wait for it.
func (p *pipelines) check(ctx context.Context, tasks []*task, answer func(*task, map[string]any)) error {
	byName := map[string][]*task{}
	for _, t := range tasks {
		byName[text(t, "name")] = append(byName[text(t, "name")], t)
	}
	var errs []error
	for name, waiting := range byName {
		found, err := p.dynamic.Resource(pipelineResource).Namespace(p.namespace).Get(ctx, name, metav1.GetOptions{})
		var gone map[string]any
		if err != nil {
			if gone, err = refused("Pipeline "+name, err); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		for _, t := range waiting {
			data := gone
			if data == nil {
				data = reached(found, text(t, "until"))
			}
			if data != nil {
				answer(t, data)
			}
		}
	}
	return errors.Join(errs...)
}

// reached returns the answer once a Pipeline has reached the phase or cannot any more, and nil until then.
func reached(p *unstructured.Unstructured, until string) map[string]any {
	observed, _, _ := unstructured.NestedInt64(p.Object, "status", "observedGeneration")
	if observed != p.GetGeneration() || p.GetDeletionTimestamp() != nil {
		return nil // the status is of an older generation
	}
	phase, _, _ := unstructured.NestedString(p.Object, "status", "phase")
	if message, stalled := condition(p, "Stalled"); stalled || phase == "Failed" {
		return delegated.Failure(fmt.Sprintf("Pipeline %s cannot work: %s", p.GetName(), message), true)
	}
	// A Pipeline that has finished was running before.
	phases := map[string]bool{"Running": phase == "Running" || phase == "Finished", "Paused": phase == "Paused", "Completed": phase == "Finished"}
	if until == "" {
		until = "Running"
	}
	if !phases[until] {
		return nil
	}
	return delegated.Answer(map[string]any{"name": p.GetName(), "phase": phase})
}

// condition returns a condition's message and whether it is True. If it is not, the message is Ready's.
func condition(p *unstructured.Unstructured, kind string) (message string, isTrue bool) {
	list, _, _ := unstructured.NestedSlice(p.Object, "status", "conditions")
	for _, item := range list {
		c, _ := item.(map[string]any)
		text, _ := c["message"].(string)
		switch {
		case c["type"] == kind && c["status"] == "True":
			return text, true
		case c["type"] == "Ready":
			message = text
		}
	}
	return message, false
}

// abandon does nothing: the step does not own the Pipeline.
func (p *pipelines) abandon(context.Context, store.Delegation) error { return nil }
