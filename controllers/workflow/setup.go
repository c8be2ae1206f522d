// SPDX-License-Identifier: Apache-2.0

package workflow

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	ctrlreconcile "sigs.k8s.io/controller-runtime/pkg/reconcile"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	workflowv1alpha1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/connections"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/refs"
	"github.com/itechsmart/operator/controllers/internal/service"
	"github.com/itechsmart/operator/controllers/internal/setup"
)

// Setup adds the product's controllers to the manager.
func Setup(d *setup.Deps) error { return SetupWith(d, time.Now) }

// SetupWith is Setup with another clock.
func SetupWith(d *setup.Deps, now func() time.Time) error {
	c := newController(d.Manager.GetClient(), now)
	c.Applier, c.Refs = d.Applier, d.Refs
	if err := c.index(d.Manager.GetFieldIndexer()); err != nil {
		return err
	}
	for _, set := range []func(*setup.Deps) error{c.setupWorkflows, c.setupBindings, c.setupRuns, c.setupHistory} {
		if err := set(d); err != nil {
			return err
		}
	}
	return nil
}

func (c *Controller) users() connections.Users {
	return connections.Users{Reader: c.Client, List: func() client.ObjectList { return &workflowv1alpha1.WorkflowList{} }}
}

func (c *Controller) setupWorkflows(d *setup.Deps) error {
	users := c.users()
	workflows := setup.Kind[*workflowv1alpha1.Workflow]{Name: "workflow", Like: &workflowv1alpha1.Workflow{}, NewPass: c.NewPass, Forget: c.valid.Forget}
	b := workflows.Builder(d, reported()).
		Watches(&workflowv1alpha1.Workflow{}, handler.EnqueueRequestsFromMapFunc(c.rivals), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&platformv1alpha1.Platform{}, handler.EnqueueRequestsFromMapFunc(users.OfPlatform), builder.WithPredicates(connections.BackendsChanged())).
		Watches(&workflowv1alpha1.WorkflowService{}, service.ByPlatform(users.OfPlatform), builder.WithPredicates(service.ServingChanged()))
	return workflows.Complete(d, users.Watch(b, d.Refs.Names, nil))
}

func (c *Controller) setupBindings(d *setup.Deps) error {
	mgr := d.Manager
	b := ctrl.NewControllerManagedBy(mgr).
		For(&platformv1alpha1.Platform{}, builder.WithPredicates(connections.BackendsChanged())).
		Watches(&platformv1alpha1.Platform{}, handler.EnqueueRequestsFromMapFunc(c.concerned), builder.WithPredicates(connections.BackendsChanged())).
		Watches(&workflowv1alpha1.Workflow{}, handler.EnqueueRequestsFromMapFunc(c.neighbours), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&workflowv1alpha1.WorkflowService{}, handler.EnqueueRequestsFromMapFunc(c.neighbours), builder.WithPredicates(setup.Existence())).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(whoseBindings)).
		WithOptions(d.ControllerOptions()).Named("workflow-bindings")
	err := c.users().Watch(b, d.Refs.Names, c.platformsOf).Complete(&bindings{Controller: c, recorder: mgr.GetEventRecorder("workflow-bindings")})
	if err != nil {
		return fmt.Errorf("controller of Workflows' bindings: %w", err)
	}
	return nil
}

func (c *Controller) setupRuns(d *setup.Deps) error {
	runs := setup.Kind[*workflowv1alpha1.WorkflowRun]{
		Name: "workflowrun", Like: &workflowv1alpha1.WorkflowRun{},
		NewPass: func(r *workflowv1alpha1.WorkflowRun) reconcile.Pass { return &runPass{client: c.Client, run: r} },
	}
	return runs.Complete(d, runs.Builder(d, runChanged()).
		Watches(&workflowv1alpha1.Workflow{}, handler.EnqueueRequestsFromMapFunc(c.awaiting), builder.WithPredicates(readyChanged())))
}

func (c *Controller) setupHistory(d *setup.Deps) error {
	err := ctrl.NewControllerManagedBy(d.Manager).
		For(&workflowv1alpha1.Workflow{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&workflowv1alpha1.WorkflowRun{}, handler.EnqueueRequestsFromMapFunc(workflowOf), builder.WithPredicates(ended())).
		WithOptions(d.ControllerOptions()).Named("workflowrun-history").Complete(&history{c})
	if err != nil {
		return fmt.Errorf("controller of WorkflowRuns' history: %w", err)
	}
	return nil
}

func (c *Controller) index(indexer client.FieldIndexer) error {
	err := refs.Index(context.Background(), indexer, &workflowv1alpha1.Workflow{}, refs.Fields[*workflowv1alpha1.Workflow]{
		connections.IndexSecrets: func(w *workflowv1alpha1.Workflow) []string { return connections.SecretKeys(references(w)) },
		connections.IndexVault:   func(w *workflowv1alpha1.Workflow) []string { return connections.VaultKeys(references(w)) },
		connections.IndexPlatform: func(w *workflowv1alpha1.Workflow) []string {
			keys := append(connections.PlatformKeys(references(w)), refs.PlatformKey(w.Namespace, w.Spec.PlatformRef))
			slices.Sort(keys)
			return slices.Compact(keys)
		},
		indexWebhook: webhookKeys,
	})
	if err != nil {
		return err
	}
	return refs.Index(context.Background(), indexer, &workflowv1alpha1.WorkflowRun{}, refs.Fields[*workflowv1alpha1.WorkflowRun]{
		indexWorkflow: func(r *workflowv1alpha1.WorkflowRun) []string {
			return []string{r.Namespace + "/" + r.Spec.WorkflowRef.Name}
		},
	})
}

func webhookKeys(w *workflowv1alpha1.Workflow) []string {
	var out []string
	for i := range w.Spec.Triggers {
		if hook := w.Spec.Triggers[i].Webhook; hook != nil {
			out = append(out, w.Namespace+"/"+hook.Path)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// rivals returns requests for the Workflows with one of the same webhook paths: one may win when this one changes.
func (c *Controller) rivals(ctx context.Context, obj client.Object) []ctrlreconcile.Request {
	w, ok := obj.(*workflowv1alpha1.Workflow)
	if !ok {
		return nil
	}
	return refs.Others(ctx, c.Client, w, &workflowv1alpha1.WorkflowList{}, indexWebhook, webhookKeys(w)...)
}

// neighbours returns requests for the Platforms of an object's namespace.
func (c *Controller) neighbours(ctx context.Context, obj client.Object) []ctrlreconcile.Request {
	return c.platformsOf(ctx, []ctrlreconcile.Request{{NamespacedName: client.ObjectKeyFromObject(obj)}})
}

// concerned returns the Platforms whose Workflows may see a Platform: its neighbours, and those of who names it from elsewhere.
func (c *Controller) concerned(ctx context.Context, platform client.Object) []ctrlreconcile.Request {
	users := c.users().OfPlatform(ctx, platform)
	return c.platformsOf(ctx, append(users, ctrlreconcile.Request{NamespacedName: client.ObjectKeyFromObject(platform)}))
}

// platformsOf returns the Platforms of the namespaces of Workflows.
func (c *Controller) platformsOf(ctx context.Context, workflows []ctrlreconcile.Request) []ctrlreconcile.Request {
	var out []ctrlreconcile.Request
	seen := map[string]bool{}
	for _, w := range workflows {
		if seen[w.Namespace] {
			continue
		}
		seen[w.Namespace] = true
		var platforms platformv1alpha1.PlatformList
		if err := c.Client.List(ctx, &platforms, client.InNamespace(w.Namespace)); err != nil {
			return nil // the cache answers; it fails only while the manager stops
		}
		for i := range platforms.Items {
			out = append(out, ctrlreconcile.Request{NamespacedName: client.ObjectKeyFromObject(&platforms.Items[i])})
		}
	}
	return out
}

// whoseBindings returns a request for the Platform of a bindings Secret.
func whoseBindings(_ context.Context, secret client.Object) []ctrlreconcile.Request {
	platform := secret.GetLabels()[common.LabelPlatform]
	if secret.GetName() != common.BindingsName(platform, workflowv1alpha1.Product) {
		return nil
	}
	return []ctrlreconcile.Request{{NamespacedName: client.ObjectKey{Namespace: secret.GetNamespace(), Name: platform}}}
}

// awaiting returns requests for the WorkflowRuns of a Workflow that the service has not accepted yet.
func (c *Controller) awaiting(ctx context.Context, w client.Object) []ctrlreconcile.Request {
	var runs workflowv1alpha1.WorkflowRunList
	if err := c.Client.List(ctx, &runs, client.MatchingFields{indexWorkflow: client.ObjectKeyFromObject(w).String()}); err != nil {
		return nil // the cache answers; it fails only while the manager stops
	}
	var out []ctrlreconcile.Request
	for i := range runs.Items {
		if runs.Items[i].Status.Phase == "" {
			out = append(out, ctrlreconcile.Request{NamespacedName: client.ObjectKeyFromObject(&runs.Items[i])})
		}
	}
	return out
}

func workflowOf(_ context.Context, obj client.Object) []ctrlreconcile.Request {
	run, ok := obj.(*workflowv1alpha1.WorkflowRun)
	if !ok {
		return nil
	}
	return []ctrlreconcile.Request{{NamespacedName: client.ObjectKey{Namespace: run.Namespace, Name: run.Spec.WorkflowRef.Name}}}
}

// reported selects changes of what the service reports and Ready depends on, and not of its counts.
func reported() predicate.Predicate {
	state := func(w *workflowv1alpha1.Workflow) []any {
		out := []any{w.Status.ServedGeneration}
		for i := range w.Status.Triggers {
			t := &w.Status.Triggers[i]
			out = append(out, t.Name, t.Ready, t.Message)
		}
		return out
	}
	return setup.Updated(func(was, is *workflowv1alpha1.Workflow) bool { return !slices.Equal(state(was), state(is)) })
}

// readyChanged selects changes of a Workflow's Ready condition, which WorkflowRuns quote.
func readyChanged() predicate.Predicate {
	changed := setup.Updated(func(was, is *workflowv1alpha1.Workflow) bool {
		before, after := meta.FindStatusCondition(was.Status.Conditions, common.ConditionReady), meta.FindStatusCondition(is.Status.Conditions, common.ConditionReady)
		return !equality.Semantic.DeepEqual(before, after)
	})
	return predicate.Funcs{UpdateFunc: changed.Update}
}

// runChanged selects changes of what the service reports of a WorkflowRun and conditions show.
func runChanged() predicate.Predicate {
	return setup.Updated(func(was, is *workflowv1alpha1.WorkflowRun) bool {
		return was.Status.Phase != is.Status.Phase || was.Status.Message != is.Status.Message
	})
}

// ended selects WorkflowRuns that end, and finished ones whose time to live changes.
func ended() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool { return isEnded(e.Object) },
		DeleteFunc: func(event.DeleteEvent) bool { return false },
		UpdateFunc: func(e event.UpdateEvent) bool {
			return isEnded(e.ObjectNew) && (!isEnded(e.ObjectOld) || e.ObjectOld.GetGeneration() != e.ObjectNew.GetGeneration())
		},
	}
}

func isEnded(obj client.Object) bool {
	run, ok := obj.(*workflowv1alpha1.WorkflowRun)
	return ok && run.Status.Phase.Ended()
}
