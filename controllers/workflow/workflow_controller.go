// SPDX-License-Identifier: Apache-2.0

// Package workflow has the controllers of Workflows and WorkflowRuns. What runs them is the Workflow service, which writes
// its part of their status by itself.
package workflow

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	workflowv1alpha1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/apply"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/refs"
	"github.com/itechsmart/operator/controllers/internal/service"
	"github.com/itechsmart/operator/controllers/internal/validation"
)

// +kubebuilder:rbac:groups=workflow.itechsmart.dev,resources=workflows,verbs=get;list;watch
// +kubebuilder:rbac:groups=workflow.itechsmart.dev,resources=workflows/status,verbs=patch
// +kubebuilder:rbac:groups=workflow.itechsmart.dev,resources=workflowruns,verbs=get;list;watch;delete
// +kubebuilder:rbac:groups=workflow.itechsmart.dev,resources=workflowruns/status,verbs=patch
// +kubebuilder:rbac:groups=platform.itechsmart.dev,resources=platforms,verbs=get;list;watch
// +kubebuilder:rbac:groups=vault.itechsmart.dev,resources=secrets,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=pods,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=gateway.networking.k8s.io,resources=referencegrants,verbs=list
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Controller has what all passes over Workflows and WorkflowRuns share.
type Controller struct {
	Client  client.Client
	Applier *apply.Applier
	Refs    *refs.Resolver
	// Now is the clock.
	Now func() time.Time

	// valid remembers which definitions are valid.
	valid *validation.Memo[*workflowv1alpha1.Workflow]
}

func newController(c client.Client, now func() time.Time) *Controller {
	return &Controller{Client: c, Now: now, valid: validation.NewMemo(validate)}
}

// pass is one pass over one Workflow.
type pass struct {
	c        *Controller
	workflow *workflowv1alpha1.Workflow
	platform *platformv1alpha1.Platform // nil until it is found
	service  service.Object             // the Platform's Workflow service
}

// NewPass implements the frame's contract.
func (c *Controller) NewPass(w *workflowv1alpha1.Workflow) reconcile.Pass {
	return &pass{c: c, workflow: w}
}

// Steps lead from the definition to a service that starts runs of it.
func (p *pass) Steps() []reconcile.Step {
	return []reconcile.Step{
		{Name: "definition", Run: p.accept},
		{Name: "platform", Run: p.findPlatform},
		{Name: "conflicts", Run: p.conflicts},
		{Name: "connections", Run: p.connections},
		{Name: "service", Run: p.serving},
		{Name: "triggers", Run: p.served},
	}
}

// Finalize implements reconcile.Pass: a Workflow has nothing outside of Kubernetes but its runs, which stay readable.
func (p *pass) Finalize(context.Context) error { return nil }

// Finish implements reconcile.Pass.
func (p *pass) Finish(context.Context, error) time.Duration {
	p.workflow.Status.Platform = ""
	if p.platform != nil {
		p.workflow.Status.Platform = p.platform.Name
	}
	return 0
}

// accept checks the definition.
func (p *pass) accept(context.Context) error {
	err := p.c.check(p.workflow)
	if err == nil {
		reconcile.Set(p.workflow, workflowv1alpha1.ConditionAccepted, metav1.ConditionTrue, common.ReasonSucceeded, "The definition is valid.")
		return nil
	}
	reason, message := reconcile.Classify(err)
	reconcile.Set(p.workflow, workflowv1alpha1.ConditionAccepted, metav1.ConditionFalse, reason, message)
	return err
}

// findPlatform finds whose Workflow service runs it.
func (p *pass) findPlatform(ctx context.Context) error {
	platform, err := refs.Platform(ctx, p.c.Client, p.workflow.Namespace, p.workflow.Spec.PlatformRef)
	if err != nil {
		return err
	}
	p.platform = platform
	p.service, err = serviceType.On(ctx, p.c.Client, platform)
	return err
}

// conflicts: of two Workflows that have one webhook path, the older wins.
func (p *pass) conflicts(ctx context.Context) error {
	for i := range p.workflow.Spec.Triggers {
		hook := p.workflow.Spec.Triggers[i].Webhook
		if hook == nil {
			continue
		}
		var others workflowv1alpha1.WorkflowList
		if err := p.c.Client.List(ctx, &others, client.MatchingFields{indexWebhook: p.workflow.Namespace + "/" + hook.Path}); err != nil {
			return fmt.Errorf("list Workflows of webhook path %q: %w", hook.Path, err)
		}
		for j := range others.Items {
			other := &others.Items[j]
			if !common.Older(other, p.workflow) || !runsOn(other, p.platform.Name) || p.c.check(other) != nil {
				continue
			}
			return reconcile.Stall(common.ReasonConflict, "spec.triggers[%d].webhook.path: %s is that of the older Workflow %s; choose another path",
				i, hook.Path, other.Name)
		}
	}
	return nil
}

func runsOn(w *workflowv1alpha1.Workflow, platform string) bool {
	return w.Spec.PlatformRef == nil || w.Spec.PlatformRef.Name == platform
}

// connections resolves all that the Workflow names; who writes it into the services' file is bindings.
func (p *pass) connections(ctx context.Context) error {
	_, err := p.c.resolve(ctx, p.workflow)
	return err
}

// serving waits for service and workers.
func (p *pass) serving(context.Context) error {
	return serviceType.Serving(p.service)
}

// served waits until the service has taken this generation, and what starts runs of it.
func (p *pass) served(context.Context) error {
	w := p.workflow
	if w.Status.ServedGeneration != w.Generation {
		return reconcile.Wait(common.ReasonProgressing, "the Workflow service takes generation %d", w.Generation)
	}
	if w.Spec.Suspend {
		return nil // no trigger starts anything, as specified
	}
	for i := range w.Spec.Triggers {
		row := triggerRow(w, w.Spec.Triggers[i].Name)
		switch {
		case row == nil:
			return reconcile.Wait(workflowv1alpha1.ReasonTriggersNotReady, "spec.triggers[%d]: the Workflow service has not taken trigger %s yet", i, w.Spec.Triggers[i].Name)
		case !row.Ready:
			message := row.Message
			if message == "" {
				message = "it is being set up"
			}
			return reconcile.Wait(workflowv1alpha1.ReasonTriggersNotReady, "spec.triggers[%d]: trigger %s is not ready: %s", i, row.Name, message)
		}
	}
	return nil
}

func triggerRow(w *workflowv1alpha1.Workflow, name string) *workflowv1alpha1.TriggerStatus {
	for i := range w.Status.Triggers {
		if w.Status.Triggers[i].Name == name {
			return &w.Status.Triggers[i]
		}
	}
	return nil
}

var _ reconcile.Pass = (*pass)(nil)
