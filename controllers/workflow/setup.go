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

// +kubebuilder:webhook:path=/validate-workflow-itechsmart-dev-v1alpha1-workflow,mutating=false,failurePolicy=ignore,sideEffects=None,groups=workflow.itechsmart.dev,resources=workflows,verbs=create;update,versions=v1alpha1,name=workflows.workflow.itechsmart.dev,admissionReviewVersions=v1

// Setup adds the product's controllers to the manager.
func Setup(d *setup.Deps) error { return SetupWith(d, time.Now) }

// SetupWith is Setup with another clock.
func SetupWith(d *setup.Deps, now func() time.Time) error {
	c := &Controller{Client: d.Manager.GetClient(), Applier: d.Applier, Refs: d.Refs, Now: now}
	if err := setup.Validate(d, &workflowv1alpha1.Workflow{}, admit); err != nil {
		return err
	}
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
	mgr, users := d.Manager, c.users()
	reconciler := &reconcile.Reconciler[*workflowv1alpha1.Workflow]{
		Client: mgr.GetClient(), Recorder: mgr.GetEventRecorder("workflow"),
		New: func() *workflowv1alpha1.Workflow { return &workflowv1alpha1.Workflow{} }, NewPass: c.NewPass, Forget: c.Forget,
	}
	b := ctrl.NewControllerManagedBy(mgr).
		For(&workflowv1alpha1.Workflow{}, builder.WithPredicates(predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, told()))).
		Watches(&workflowv1alpha1.Workflow{}, handler.EnqueueRequestsFromMapFunc(c.rivals), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&platformv1alpha1.Platform{}, handler.EnqueueRequestsFromMapFunc(users.OfPlatform), builder.WithPredicates(connections.BackendsChanged())).
		Watches(&workflowv1alpha1.WorkflowService{}, service.ByPlatform(users.OfPlatform), builder.WithPredicates(service.ServingChanged())).
		WithOptions(d.ControllerOptions()).Named("workflow")
	if err := users.Watch(b, d.Refs.Names, nil).Complete(reconciler); err != nil {
		return fmt.Errorf("workflow controller: %w", err)
	}
	return nil
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
	mgr := d.Manager
	reconciler := &reconcile.Reconciler[*workflowv1alpha1.WorkflowRun]{
		Client: mgr.GetClient(), Recorder: mgr.GetEventRecorder("workflowrun"),
		New:     func() *workflowv1alpha1.WorkflowRun { return &workflowv1alpha1.WorkflowRun{} },
		NewPass: func(r *workflowv1alpha1.WorkflowRun) reconcile.Pass { return &runPass{client: mgr.GetClient(), run: r} },
	}
	err := ctrl.NewControllerManagedBy(mgr).
		For(&workflowv1alpha1.WorkflowRun{}, builder.WithPredicates(predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, runChanged()))).
		Watches(&workflowv1alpha1.Workflow{}, handler.EnqueueRequestsFromMapFunc(c.awaiting), builder.WithPredicates(readyChanged())).
		WithOptions(d.ControllerOptions()).Named("workflowrun").Complete(reconciler)
	if err != nil {
		return fmt.Errorf("WorkflowRun controller: %w", err)
	}
	return nil
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
	for field, extract := range map[string]func(*workflowv1alpha1.Workflow) []string{
		connections.IndexSecrets: func(w *workflowv1alpha1.Workflow) []string { return connections.SecretKeys(references(w)) },
		connections.IndexVault:   func(w *workflowv1alpha1.Workflow) []string { return connections.VaultKeys(references(w)) },
		connections.IndexPlatform: func(w *workflowv1alpha1.Workflow) []string {
			keys := append(connections.PlatformKeys(references(w)), refs.PlatformKey(w.Namespace, w.Spec.PlatformRef))
			slices.Sort(keys)
			return slices.Compact(keys)
		},
		indexWebhook: webhookKeys,
	} {
		err := indexer.IndexField(context.Background(), &workflowv1alpha1.Workflow{}, field, func(obj client.Object) []string {
			w, ok := obj.(*workflowv1alpha1.Workflow)
			if !ok {
				return nil
			}
			return extract(w)
		})
		if err != nil {
			return fmt.Errorf("index Workflows by %s: %w", field, err)
		}
	}
	err := indexer.IndexField(context.Background(), &workflowv1alpha1.WorkflowRun{}, indexWorkflow, func(obj client.Object) []string {
		run, ok := obj.(*workflowv1alpha1.WorkflowRun)
		if !ok {
			return nil
		}
		return []string{run.Namespace + "/" + run.Spec.WorkflowRef.Name}
	})
	if err != nil {
		return fmt.Errorf("index WorkflowRuns by Workflow: %w", err)
	}
	return nil
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

// rivals are the Workflows with one of the same webhook paths: when the older one goes or changes, a younger may win.
func (c *Controller) rivals(ctx context.Context, obj client.Object) []ctrlreconcile.Request {
	w, ok := obj.(*workflowv1alpha1.Workflow)
	if !ok {
		return nil
	}
	found := refs.Matching(ctx, c.Client, &workflowv1alpha1.WorkflowList{}, indexWebhook, webhookKeys(w)...)
	return slices.DeleteFunc(found, func(r ctrlreconcile.Request) bool { return r.NamespacedName == client.ObjectKeyFromObject(w) })
}

// neighbours are the Platforms of an object's namespace.
func (c *Controller) neighbours(ctx context.Context, obj client.Object) []ctrlreconcile.Request {
	return c.platformsOf(ctx, []ctrlreconcile.Request{{NamespacedName: client.ObjectKeyFromObject(obj)}})
}

// concerned are the Platforms whose Workflows may see a Platform: its neighbours, and those of who names it from elsewhere.
func (c *Controller) concerned(ctx context.Context, platform client.Object) []ctrlreconcile.Request {
	users := c.users().OfPlatform(ctx, platform)
	return c.platformsOf(ctx, append(users, ctrlreconcile.Request{NamespacedName: client.ObjectKeyFromObject(platform)}))
}

// platformsOf are the Platforms of the namespaces of Workflows.
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

// whoseBindings is the Platform of a bindings Secret, which was written, or which somebody changed or removed.
func whoseBindings(_ context.Context, secret client.Object) []ctrlreconcile.Request {
	platform := secret.GetLabels()[common.LabelPlatform]
	if secret.GetName() != common.BindingsName(platform, workflowv1alpha1.Product) {
		return nil
	}
	return []ctrlreconcile.Request{{NamespacedName: client.ObjectKey{Namespace: secret.GetNamespace(), Name: platform}}}
}

// awaiting are the WorkflowRuns of a Workflow that the service has not taken yet.
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

// told lets through what the service tells of a Workflow and Ready depends on; what it counts is not.
func told() predicate.Predicate {
	state := func(w *workflowv1alpha1.Workflow) []any {
		out := []any{w.Status.ServedGeneration}
		for i := range w.Status.Triggers {
			t := &w.Status.Triggers[i]
			out = append(out, t.Name, t.Ready, t.Message)
		}
		return out
	}
	return updated(func(was, is *workflowv1alpha1.Workflow) bool { return !slices.Equal(state(was), state(is)) })
}

// readyChanged lets through what WorkflowRuns say of a Workflow that is not Ready.
func readyChanged() predicate.Predicate {
	changed := updated(func(was, is *workflowv1alpha1.Workflow) bool {
		before, after := meta.FindStatusCondition(was.Status.Conditions, common.ConditionReady), meta.FindStatusCondition(is.Status.Conditions, common.ConditionReady)
		return !equality.Semantic.DeepEqual(before, after)
	})
	return predicate.Funcs{UpdateFunc: changed.Update}
}

// runChanged lets through what the service tells of a WorkflowRun and the conditions say.
func runChanged() predicate.Predicate {
	return updated(func(was, is *workflowv1alpha1.WorkflowRun) bool {
		return was.Status.Phase != is.Status.Phase || was.Status.Message != is.Status.Message
	})
}

// ended lets a WorkflowRun through that has ended: when it does, and when it is kept for another time.
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

// updated lets updates through that change something, and nothing else: to be joined with another predicate.
func updated[T client.Object](changed func(was, is T) bool) predicate.Funcs {
	return predicate.Funcs{
		CreateFunc: func(event.CreateEvent) bool { return false }, DeleteFunc: func(event.DeleteEvent) bool { return false },
		GenericFunc: func(event.GenericEvent) bool { return false },
		UpdateFunc: func(e event.UpdateEvent) bool {
			was, ok := e.ObjectOld.(T)
			is, isOne := e.ObjectNew.(T)
			return ok && isOne && changed(was, is)
		},
	}
}
