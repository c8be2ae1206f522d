// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/dynamic"
	"github.com/itechsmart/operator/controllers/internal/memo"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/refs"
	"github.com/itechsmart/operator/controllers/internal/setup"
	"github.com/itechsmart/operator/controllers/internal/tenants"
	"github.com/itechsmart/operator/controllers/internal/validation"
	"github.com/itechsmart/operator/controllers/internal/workload"
	"github.com/itechsmart/operator/workloads/config"
)

// Openers open the servers that services' objects are made in.
type Openers struct {
	databases tenants.Open
	brokers   openBrokers
}

// pass is one reconciliation of one service.
type pass struct {
	deps    *setup.Deps
	client  client.Client
	open    Openers
	lately  *memo.Lately[comparedKey]
	valid   *validation.Memo[Object]
	dynamic *dynamic.Kinds
	kind    *Type
	gvk     schema.GroupVersionKind
	service Object
	spec    *common.ServiceSpec

	// serving is the number of replicas with the current configuration; version is that of their image.
	serving int32
	version string
	// again is when to look at servers again.
	again time.Duration
}

// observed is the live state at the beginning of a pass.
type observed struct {
	service, worker *appsv1.Deployment // nil: none
	serving         *config.Service    // what the service's Pods read; nil: none
}

// started reports whether the service ran before.
func (o *observed) started() bool { return o.service != nil }

// Steps implements reconcile.Pass.
func (p *pass) Steps() []reconcile.Step {
	return []reconcile.Step{{Name: "validation", Run: p.validate}, {Name: "rival", Run: p.rival}, {Name: "serve", Run: p.serve}}
}

func (p *pass) validate(context.Context) error { return p.valid.Check(p.service) }

// rival returns an error when an older service of the product stands on the Platform.
func (p *pass) rival(ctx context.Context) error {
	older, err := p.kind.Of(ctx, p.client, p.service.GetNamespace(), p.spec.PlatformRef.Name)
	if err != nil || older == nil || older.GetUID() == p.service.GetUID() {
		return err
	}
	return reconcile.Stall(common.ReasonConflict, "spec.platformRef: the older %s %s serves Platform %s; delete one of the two",
		p.gvk.Kind, older.GetName(), p.spec.PlatformRef.Name)
}

// serve leads from the specification to where every replica serves it.
func (p *pass) serve(ctx context.Context) error {
	now, err := p.observe(ctx)
	if err != nil {
		return err
	}
	platform, err := p.platform(ctx)
	if err != nil {
		return err
	}
	servers, err := p.servers(ctx, platform, now)
	if err != nil {
		return err
	}
	settings, err := p.settings(ctx, platform, now)
	if err != nil {
		return err
	}
	databases, err := p.databases(ctx, platform, servers.postgres, now)
	if err != nil {
		return err
	}
	queue, err := p.queue(ctx, platform, servers.rabbitmq, now)
	if err != nil {
		return err
	}
	auth, err := p.authentication(ctx, platform)
	if err != nil {
		return err
	}
	file, err := p.configuration(platform, servers, databases, queue, auth, settings)
	if err != nil {
		return err
	}
	want, err := p.render(ctx, platform, servers, file, databases.worker)
	if err != nil {
		return err
	}
	if err := p.apply(ctx, want); err != nil {
		return err
	}
	rolling := p.rolledOut(ctx, now, want)
	if err := p.prune(ctx, want, rolling == nil); err != nil {
		return err
	}
	return rolling
}

// platform returns where the service stands.
func (p *pass) platform(ctx context.Context) (*platformv1alpha1.Platform, error) {
	platform, err := refs.Platform(ctx, p.client, p.service.GetNamespace(), &p.spec.PlatformRef)
	if err == nil && !platform.DeletionTimestamp.IsZero() {
		err = reconcile.Wait(common.ReasonReferenceNotReady, "spec.platformRef: Platform %s is being deleted", platform.Name)
	}
	return platform, err
}

// observe reads the Deployments as they are, and what the service's Pods read.
func (p *pass) observe(ctx context.Context) (*observed, error) {
	var o observed
	var err error
	if p.kind.Worker != nil {
		if o.worker, err = p.deployment(ctx, p.kind.Worker.Name); err != nil {
			return nil, err
		}
	}
	if o.service, err = p.deployment(ctx, p.kind.Product); err != nil || o.service == nil {
		return &o, err
	}
	hash := o.service.Spec.Template.Annotations[workload.AnnotationChecksum]
	o.serving, err = p.readConfig(ctx, configPrefix(p.spec.PlatformRef.Name, p.kind.Product)+hash)
	return &o, err
}

// deployment returns this service's Deployment of a component; nil: none.
func (p *pass) deployment(ctx context.Context, component string) (*appsv1.Deployment, error) {
	var live appsv1.Deployment
	name := p.componentName(component)
	err := p.client.Get(ctx, client.ObjectKey{Namespace: p.service.GetNamespace(), Name: name}, &live)
	if apierrors.IsNotFound(err) || err == nil && !metav1.IsControlledBy(&live, p.service) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read Deployment %s: %w", name, err)
	}
	return &live, nil
}

// settings returns the product's own part of the configuration.
func (p *pass) settings(ctx context.Context, platform *platformv1alpha1.Platform, now *observed) (any, error) {
	if p.kind.Configure == nil {
		return nil, nil
	}
	return p.kind.Configure(ctx, &Request{Service: p.service, Platform: platform, pass: p, serving: now.serving})
}

// Finish implements reconcile.Pass.
func (p *pass) Finish(_ context.Context, err error) time.Duration {
	status := p.service.ServiceStatus()
	status.URL = common.ServiceURL(p.service.GetNamespace(), p.spec.PlatformRef.Name, p.kind.Product)
	status.Selector = metav1.FormatLabelSelector(&metav1.LabelSelector{MatchLabels: selectorLabels(p.spec.PlatformRef.Name, p.kind.Product)})
	status.Replicas = p.serving
	if err == nil {
		status.Version = p.version
	}
	return p.again
}

var _ reconcile.Pass = (*pass)(nil)
