// SPDX-License-Identifier: Apache-2.0

// Package dataflow implements the controller of Pipelines.
package dataflow

import (
	"context"
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	dataflowv1alpha1 "github.com/itechsmart/operator/api/dataflow/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/apply"
	"github.com/itechsmart/operator/controllers/internal/connections"
	"github.com/itechsmart/operator/controllers/internal/memo"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/refs"
	"github.com/itechsmart/operator/controllers/internal/validation"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/clickhouse"
	"github.com/itechsmart/operator/internal/backend/kafka"
	"github.com/itechsmart/operator/internal/backend/postgres"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

// +kubebuilder:rbac:groups=dataflow.itechsmart.dev,resources=pipelines,verbs=get;list;watch;patch;update
// +kubebuilder:rbac:groups=dataflow.itechsmart.dev,resources=pipelines/status,verbs=get;patch;update
// +kubebuilder:rbac:groups=dataflow.itechsmart.dev,resources=pipelines/finalizers,verbs=update
// +kubebuilder:rbac:groups=platform.itechsmart.dev,resources=platforms,verbs=get;list;watch
// +kubebuilder:rbac:groups=vault.itechsmart.dev,resources=secrets,verbs=get;list;watch
// +kubebuilder:rbac:groups=apps,resources=deployments,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=batch,resources=jobs,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=secrets;services,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=pods,verbs=get;list;watch
// +kubebuilder:rbac:groups=policy,resources=poddisruptionbudgets,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=networking.k8s.io,resources=networkpolicies,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=gateway.networking.k8s.io,resources=referencegrants,verbs=get;list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Backends opens clients of the systems that hold external objects.
type Backends struct {
	Kafka      func(backend.Binding) (kafka.Admin, error)
	ClickHouse func(backend.Binding) (clickhouse.Admin, error)
	Postgres   func(backend.Binding) (postgres.Admin, error)
}

// Controller holds what all passes over Pipelines share.
type Controller struct {
	Client        client.Client
	Applier       *apply.Applier
	Refs          *refs.Resolver
	Backends      Backends
	Monitor       *Monitor
	WorkerImage   string
	AllowPrivate  bool // workers may call private addresses
	DriftInterval time.Duration

	// checked remembers which external objects were compared lately, and valid which specifications are valid.
	checked *memo.Lately[client.ObjectKey]
	valid   *validation.Memo[*dataflowv1alpha1.Pipeline]
}

// pass is one pass over one Pipeline.
type pass struct {
	c           *Controller
	pipeline    *dataflowv1alpha1.Pipeline
	only        string // the namespace's only Platform
	single      string // the path of the source that limits the Pipeline to one worker, although the spec asks for more
	connections map[string]connections.Found
	declared    []declaration
	desired     *desired
	deployment  *appsv1.Deployment // the live one; nil: none
}

// NewPass returns the pass for a Pipeline.
func (c *Controller) NewPass(p *dataflowv1alpha1.Pipeline) reconcile.Pass {
	return &pass{c: c, pipeline: p}
}

// Forget drops what is remembered of a Pipeline that no longer exists.
func (c *Controller) Forget(key client.ObjectKey) {
	c.checked.Delete(key)
	c.valid.Forget(key)
}

// Steps implements reconcile.Pass.
func (p *pass) Steps() []reconcile.Step {
	return []reconcile.Step{
		{Name: "observe", Run: p.observe},
		{Name: "validation", Run: p.validate},
		{Name: "connections", Run: p.resolve},
		{Name: "configuration", Run: p.configure},
		{Name: "conflicts", Run: p.conflicts},
		{Name: "external objects", Run: p.ensure},
		{Name: "tests", Run: p.test},
		{Name: "workers", Run: p.roll},
		{Name: "rollout", Run: p.rolledOut},
		{Name: "clean-up", Run: p.prune},
		{Name: "data flow", Run: p.flows},
	}
}

// observe reads the live Deployment first, so that the status has it even when a later step fails.
func (p *pass) observe(ctx context.Context) error {
	var deployment appsv1.Deployment
	err := p.c.Client.Get(ctx, client.ObjectKey{Namespace: p.pipeline.Namespace, Name: workerName(p.pipeline)}, &deployment)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read Deployment: %w", err)
	}
	p.deployment = &deployment
	return nil
}

// configure renders the worker's configuration.
func (p *pass) configure(context.Context) error {
	targets := map[string]string{}
	single := ""
	for _, c := range components(p.pipeline) {
		t, err := targetOf(p.pipeline, c, p.only)
		if err != nil {
			return err
		}
		targets[c.path] = t.String()
		if info, ok := connectorInfo(c.kind, c.typ); ok && c.kind == kindSource && !info.Overlaps {
			single = c.path
		}
	}
	rendered := render(p.pipeline, targets, p.connections)
	hash := rendered.Hash()
	tested := testedHash(rendered, hash)
	if err := p.validateConnections(rendered); err != nil {
		return err
	}
	p.desired = &desired{pipeline: p.pipeline, config: rendered, hash: hash, tested: tested, replicas: p.pipeline.WantedReplicas(), image: p.c.WorkerImage, private: p.c.AllowPrivate}
	if single != "" && p.desired.replicas > 1 {
		p.desired.replicas, p.single = 1, single
	}
	if len(rendered.Tests) == 0 {
		p.setConfigValid(metav1.ConditionTrue, common.ReasonSucceeded, "The configuration can run.")
	}
	return nil
}

// ensure creates and updates topics and tables when the declaration or a connection changed, and at every drift interval.
func (p *pass) ensure(ctx context.Context) error {
	key, sum := client.ObjectKeyFromObject(p.pipeline), p.fingerprint()
	if p.externalReady() {
		p.c.checked.Assume(key, sum, p.c.DriftInterval)
	}
	objects, err := p.external(ctx, key, sum)
	if err != nil {
		reason, message := reconcile.Classify(err)
		reconcile.Set(p.pipeline, dataflowv1alpha1.ConditionExternalObjectsReady, metav1.ConditionFalse, reason, message)
		return err
	}
	p.pipeline.Status.ExternalObjects = objects
	reconcile.Set(p.pipeline, dataflowv1alpha1.ConditionExternalObjectsReady, metav1.ConditionTrue, common.ReasonSucceeded, "Topics and tables are as declared.")
	return nil
}

// external returns the external objects. It compares them with the servers only when that is due.
func (p *pass) external(ctx context.Context, key client.ObjectKey, sum string) ([]common.ExternalObject, error) {
	if due, _ := p.c.checked.Due(key, sum); !due {
		return knownExternal(p.owner(), p.declared)
	}
	objects, err := p.c.ensureExternal(ctx, p.owner(), p.declared, p.connections)
	if err != nil {
		p.c.checked.DoneFor(key, sum, 0) // whatever an old status says, the next pass compares
		return nil, err
	}
	p.c.checked.Done(key, sum)
	return objects, nil
}

// fingerprint identifies the declared objects and the connections.
func (p *pass) fingerprint() string {
	var out strings.Builder
	out.WriteString(string(p.pipeline.UID) + ";")
	for _, d := range p.declared {
		name := d.target.String()
		fmt.Fprintf(&out, "%s|%s|%+v|%s;", d.kind, name, d.shape, p.connections[name].Version)
	}
	return out.String()
}

// externalReady reports whether the last pass over this generation, perhaps of an earlier manager, found all as declared.
func (p *pass) externalReady() bool {
	condition := meta.FindStatusCondition(p.pipeline.Status.Conditions, dataflowv1alpha1.ConditionExternalObjectsReady)
	return condition != nil && condition.Status == metav1.ConditionTrue && condition.ObservedGeneration == p.pipeline.Generation
}

// roll applies the configuration and the workers.
func (p *pass) roll(ctx context.Context) error {
	secret, err := p.desired.configSecret()
	if err != nil {
		return err
	}
	return p.c.Applier.Apply(ctx, p.pipeline, append([]client.Object{secret}, p.desired.children()...)...)
}

// children returns all objects except for the configuration's Secret.
func (d *desired) children() []client.Object {
	out := []client.Object{d.service(), d.networkPolicy(), d.deployment()}
	if d.replicas > 1 {
		out = append(out, d.disruptionBudget())
	}
	return out
}

// rolledOut waits until every worker runs the current configuration and is connected.
func (p *pass) rolledOut(ctx context.Context) error {
	if err := p.observe(ctx); err != nil {
		return err
	}
	if p.deployment == nil || p.deployment.Annotations[annotationConfigHash] != p.desired.hash {
		return reconcile.Wait(common.ReasonProgressing, "Workers are being made.")
	}
	status := p.deployment.Status
	want := p.desired.replicas
	switch {
	case status.ObservedGeneration < p.deployment.Generation || status.UpdatedReplicas < want || status.Replicas != want:
		return reconcile.Wait(common.ReasonProgressing, "%s", p.trouble(ctx, fmt.Sprintf("%d of %d workers run the current configuration.", status.UpdatedReplicas, want)))
	case status.ReadyReplicas < want:
		return reconcile.Wait(dataflowv1alpha1.ReasonWorkersNotReady, "%s", p.trouble(ctx, fmt.Sprintf("%d of %d workers are ready.", status.ReadyReplicas, want)))
	case want == 0:
		return p.drained(ctx, common.ReasonProgressing)
	}
	return nil
}

// drained waits until no worker is left. A Deployment does not count Pods that still write out what they have read.
func (p *pass) drained(ctx context.Context, reason string) error {
	var pods corev1.PodList
	if err := p.c.Client.List(ctx, &pods, client.InNamespace(p.pipeline.Namespace), client.MatchingLabels(workerLabels(p.pipeline))); err != nil {
		return fmt.Errorf("list workers: %w", err)
	}
	if len(pods.Items) > 0 {
		return &reconcile.Waiting{Reason: reason, Message: "Workers write out what they have read.", After: time.Second}
	}
	return nil
}

// trouble says why workers are not ready: the first error of a connector, or what keeps a Pod from running.
func (p *pass) trouble(ctx context.Context, otherwise string) string {
	if s := p.c.Monitor.latest(client.ObjectKeyFromObject(p.pipeline)); s != nil {
		for i := range s.statuses {
			for _, c := range append(append([]config.Component{}, s.statuses[i].Sources...), s.statuses[i].Sinks...) {
				if c.LastError != "" && c.State != config.StateConnected {
					return fmt.Sprintf("%s (%s): %s", c.Name, c.Type, c.LastError)
				}
			}
		}
	}
	var pods corev1.PodList
	if err := p.c.Client.List(ctx, &pods, client.InNamespace(p.pipeline.Namespace), client.MatchingLabels(workerLabels(p.pipeline))); err != nil {
		return otherwise
	}
	if why := apply.PodTrouble(pods.Items); why != "" {
		return why
	}
	return otherwise
}

// prune removes configurations and test Jobs of earlier generations that nothing uses any more.
func (p *pass) prune(ctx context.Context) error {
	// When the cache has the current configuration it also has all earlier ones. Before that, some could not be removed.
	current := client.ObjectKey{Namespace: p.pipeline.Namespace, Name: configName(p.pipeline, p.desired.hash)}
	err := p.c.Client.Get(ctx, current, &corev1.Secret{}, client.UnsafeDisableDeepCopy)
	if apierrors.IsNotFound(err) {
		return &reconcile.Waiting{Reason: common.ReasonProgressing, Message: "The configuration is being written.", After: 200 * time.Millisecond}
	}
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	retain := map[string]bool{"Secret/" + configName(p.pipeline, p.desired.hash): true}
	for _, child := range p.desired.children() {
		retain[p.c.Applier.Key(child)] = true
	}
	return p.c.Applier.Prune(ctx, p.pipeline, retain)
}

// flows holds Ready back while a source or sink cannot be reached, although the workers run.
func (p *pass) flows(context.Context) error {
	s := p.c.Monitor.latest(client.ObjectKeyFromObject(p.pipeline))
	if s == nil || p.desired.replicas == 0 {
		return nil
	}
	for i := range s.statuses {
		if blocked := s.statuses[i].LastError; blocked != "" {
			return reconcile.Wait(dataflowv1alpha1.ReasonBlocked, "%s; mend the Pipeline, or set onError to Drop or DeadLetter", blocked)
		}
		for _, c := range append(append([]config.Component{}, s.statuses[i].Sources...), s.statuses[i].Sinks...) {
			if c.State == config.StateRetrying {
				return reconcile.Wait(dataflowv1alpha1.ReasonRetrying, "%s (%s): %s", c.Name, c.Type, c.LastError)
			}
		}
	}
	return nil
}

// Finalize stops the workers, and then removes external objects if deletionPolicy says so.
func (p *pass) Finalize(ctx context.Context) error {
	p.pipeline.Status.Phase = dataflowv1alpha1.PhaseDeleting
	if p.pipeline.Spec.DeletionPolicy != common.DeletionDelete {
		return nil
	}
	if err := p.c.Applier.Prune(ctx, p.pipeline, nil); err != nil {
		return err
	}
	if err := p.drained(ctx, common.ReasonDeleting); err != nil {
		return err
	}
	return p.drop(ctx)
}
