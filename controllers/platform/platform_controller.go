// SPDX-License-Identifier: Apache-2.0

// Package platform reconciles Platforms: the systems that a tenant's products store and move data with.
package platform

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/dynamic"
	"github.com/itechsmart/operator/controllers/internal/memo"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/setup"
	"github.com/itechsmart/operator/controllers/internal/tenants"
	"github.com/itechsmart/operator/controllers/internal/workload"
	"github.com/itechsmart/operator/internal/backend"
)

// +kubebuilder:rbac:groups=platform.itechsmart.dev,resources=platforms,verbs=get;list;watch;patch;update
// +kubebuilder:rbac:groups=platform.itechsmart.dev,resources=platforms/status,verbs=patch
// +kubebuilder:rbac:groups=platform.itechsmart.dev,resources=platforms/finalizers,verbs=update
// +kubebuilder:rbac:groups=apps,resources=statefulsets,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=services;configmaps;secrets,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=persistentvolumeclaims,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups="",resources=pods,verbs=get;list;watch
// +kubebuilder:rbac:groups=policy,resources=poddisruptionbudgets,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=networking.k8s.io,resources=networkpolicies,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch
// +kubebuilder:rbac:groups=gateway.networking.k8s.io,resources=referencegrants,verbs=list
// +kubebuilder:rbac:groups=postgresql.cnpg.io,resources=clusters,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=kafka.strimzi.io,resources=kafkas;kafkanodepools;kafkausers,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=rabbitmq.com,resources=rabbitmqclusters,verbs=get;list;watch;create;patch;delete

// pass is one reconciliation of one Platform.
type pass struct {
	deps      *setup.Deps
	client    client.Client
	cache     client.Reader
	prober    *prober
	dynamic   *dynamic.Kinds
	defaults  defaults
	platform  *v1alpha1.Platform
	databases tenants.Open
	lately    *memo.Lately[client.ObjectKey]

	rows []v1alpha1.BackendStatus
	// failures are the errors of backends and of identity, each beside its name.
	failures []failure
	// again is when the next login is due.
	again time.Duration
}

type failure struct {
	name string
	err  error
}

// Steps implements reconcile.Pass. A backend that fails does not keep the others from going on.
func (p *pass) Steps() []reconcile.Step {
	return []reconcile.Step{
		{Name: "backends", Run: p.backends},
		{Name: "identity", Run: p.identity},
		{Name: "prune", Run: p.prune},
		{Name: "summary", Run: p.summary},
	}
}

// Finish implements reconcile.Pass.
func (p *pass) Finish(context.Context, error) time.Duration {
	if p.rows == nil {
		return p.again
	}
	ready := 0
	for i := range p.rows {
		if p.rows[i].Ready {
			ready++
		}
	}
	p.platform.Status.Backends = p.rows
	p.platform.Status.Ready = fmt.Sprintf("%d/%d", ready, len(p.rows))
	return p.again
}

func (p *pass) probeKey(kind *backendType) probeKey {
	return probeKey{platform: client.ObjectKeyFromObject(p.platform), backend: kind.name}
}

func (p *pass) backends(ctx context.Context) error {
	p.rows = []v1alpha1.BackendStatus{}
	for _, kind := range backendTypes {
		spec := kind.pick(&p.platform.Spec.Backends)
		if spec == nil {
			continue
		}
		row, err := p.backend(ctx, kind, spec)
		if err != nil {
			_, row.Message = reconcile.Classify(err)
			row.Ready = false
			p.failures = append(p.failures, failure{name: kind.name, err: err})
		}
		p.rows = append(p.rows, row)
	}
	return nil
}

// backend brings one backend to where a client can log in.
func (p *pass) backend(ctx context.Context, kind *backendType, spec *v1alpha1.Backend) (v1alpha1.BackendStatus, error) {
	row := v1alpha1.BackendStatus{Name: kind.name, Mode: spec.Mode()}
	was := p.platform.Status.Backend(kind.name)
	if was != nil && was.Mode == row.Mode {
		// What is known stays known while something is awaited.
		row.Endpoint, row.Version, row.BindingSecret = was.Endpoint, was.Version, was.BindingSecret
	}
	var b backend.Binding
	var err error
	switch {
	case spec.External != nil:
		b, err = p.external(ctx, kind, spec.External)
	case spec.Operated != nil:
		b, err = p.operated(ctx, kind, spec.Operated)
	default:
		b, err = p.managed(ctx, kind, spec.Managed)
	}
	if b.Type != "" { // the binding Secret is written
		row.BindingSecret = p.platform.BindingSecretName(kind.name)
		row.Endpoint = net.JoinHostPort(b.Host, b.Port)
	}
	if err != nil {
		return row, err
	}
	return p.login(kind, b, row, was)
}

// login takes what the last login to the backend found.
func (p *pass) login(kind *backendType, b backend.Binding, row v1alpha1.BackendStatus, was *v1alpha1.BackendStatus) (v1alpha1.BackendStatus, error) {
	result, due := p.prober.check(p.probeKey(kind), b)
	if due > 0 && (p.again == 0 || due < p.again) {
		p.again = due
	}
	switch {
	case result.known && result.reason == "":
		row.Ready, row.Version = true, result.version
		return row, nil
	case result.known:
		return row, &reconcile.Waiting{Reason: result.reason, Message: advice(kind, row.Mode, result, b)}
	case was != nil && was.Ready && was.Endpoint == row.Endpoint:
		// The manager restarted, or the binding changed: until the login ends, what was true still is.
		row.Ready = true
		return row, nil
	default:
		return row, reconcile.Wait(common.ReasonProgressing, "logging in at %s", row.Endpoint)
	}
}

// advice says what to do about a failed login.
func advice(kind *backendType, mode string, result probeResult, b backend.Binding) string {
	what := fmt.Sprintf("%s at %s cannot be used: %s", kind.title, b.Address(), result.message)
	switch {
	case result.reason == common.ReasonAccessDenied && mode == v1alpha1.ModeManaged:
		return what + "; the volume was made with other credentials: restore the credentials Secret, or remove the volume"
	case result.reason == common.ReasonAccessDenied:
		return what + "; correct username and password in the Secret, and the user's rights"
	case result.reason == common.ReasonInvalidSpec:
		return what + "; correct the Secret"
	case result.reason == common.ReasonReferenceNotFound:
		return what + "; create it, or correct the Secret"
	case mode == v1alpha1.ModeExternal:
		return what + "; check that the server runs and that the network lets the operator in"
	default:
		return what + "; see its pod's log"
	}
}

// prune removes the children of backends that the specification no longer has.
func (p *pass) prune(ctx context.Context) error {
	retain := map[string]bool{}
	for _, kind := range backendTypes {
		spec := kind.pick(&p.platform.Spec.Backends)
		if spec == nil {
			if was := p.platform.Status.Backend(kind.name); was != nil {
				p.prober.forget(p.probeKey(kind))
				if was.Mode == v1alpha1.ModeOperated {
					if err := p.pruneOperated(ctx, kind); err != nil {
						return err
					}
				}
			}
			continue
		}
		retain["Secret/"+p.platform.BindingSecretName(kind.name)] = true
		if spec.Managed == nil {
			continue
		}
		name := workloadName(p.platform.Name, kind.name)
		for _, child := range []string{"StatefulSet", "Service", "ConfigMap", "PodDisruptionBudget", "NetworkPolicy"} {
			retain[child+"/"+name] = true
		}
		retain["Service/"+headlessName(p.platform.Name, kind.name)] = true
		retain["Secret/"+credentialsName(p.platform.Name, kind.name)] = true
	}
	for _, name := range identitySecrets(p.platform) {
		retain["Secret/"+name] = true
	}
	return p.deps.Applier.Prune(ctx, p.platform, retain)
}

// summary makes one error of those of all backends: an unexpected one, else the worst, in the words of all.
func (p *pass) summary(context.Context) error {
	if len(p.failures) == 0 {
		return nil
	}
	var unexpected []error
	var waiting *reconcile.Waiting
	var terminal *reconcile.Terminal
	messages := make([]string, 0, len(p.failures))
	for _, f := range p.failures {
		var w *reconcile.Waiting
		var t *reconcile.Terminal
		switch {
		case errors.As(f.err, &t):
			if terminal == nil {
				terminal = &reconcile.Terminal{Reason: t.Reason}
			}
			terminal.After = workload.Sooner(terminal.After, t.After)
		case errors.As(f.err, &w):
			if waiting == nil || waiting.Reason == common.ReasonProgressing {
				after := time.Duration(0)
				if waiting != nil {
					after = waiting.After
				}
				waiting = &reconcile.Waiting{Reason: w.Reason, After: after}
			}
			waiting.After = workload.Sooner(waiting.After, w.After)
		default:
			unexpected = append(unexpected, fmt.Errorf("%s: %w", f.name, f.err))
		}
		_, message := reconcile.Classify(f.err)
		messages = append(messages, f.name+": "+message)
	}
	message := strings.Join(messages, "; ")
	switch {
	case len(unexpected) > 0:
		return errors.Join(unexpected...)
	case terminal != nil:
		terminal.Message = message
		if waiting != nil {
			terminal.After = workload.Sooner(terminal.After, waiting.After)
		}
		return terminal
	default:
		waiting.Message = message
		return waiting
	}
}

var _ reconcile.Pass = (*pass)(nil)
