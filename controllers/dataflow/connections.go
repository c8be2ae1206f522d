// SPDX-License-Identifier: Apache-2.0

package dataflow

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	dataflowv1alpha1 "github.com/itechsmart/operator/api/dataflow/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/refs"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

// component is a source, a sink or the dead letter: what all of them share.
type component struct {
	path   string // spec.sources[0]
	kind   string // source or sink
	typ    string
	ref    *common.ConnectionReference
	config []byte
}

// components lists a Pipeline's sources, sinks and dead letter.
func components(p *dataflowv1alpha1.Pipeline) []component {
	var out []component
	for i, s := range p.Spec.Sources {
		out = append(out, component{fmt.Sprintf("spec.sources[%d]", i), kindSource, s.Type, s.ConnectionRef, rawJSON(s.Config)})
	}
	for i, s := range p.Spec.Sinks {
		out = append(out, component{fmt.Sprintf("spec.sinks[%d]", i), kindSink, s.Type, s.ConnectionRef, rawJSON(s.Config)})
	}
	if p.Spec.DeadLetter != nil {
		out = append(out, component{"spec.deadLetter", kindSink, "kafka", p.Spec.DeadLetter.ConnectionRef, deadLetterConfig(p.Spec.DeadLetter)})
	}
	return out
}

// target names one server: the same string for every reference to it.
type target struct {
	kind, namespace, name, backend string
}

// String is the target's name in claims and in the worker's configuration.
func (t target) String() string {
	if t.kind == "" {
		return ""
	}
	parts := []string{t.kind, t.namespace, t.name}
	if t.backend != "" {
		parts = append(parts, t.backend)
	}
	return strings.Join(parts, "/")
}

// targetOf tells which server a component connects to; the zero target when it needs none.
// only is the namespace's only Platform, "" when there is none or more than one.
func targetOf(p *dataflowv1alpha1.Pipeline, c component, only string) (target, error) {
	info, ok := connectorInfo(c.kind, c.typ)
	if !ok || info.Binding == "" {
		return target{}, nil // an unknown type is reported by validation
	}
	switch {
	case c.ref != nil && c.ref.Kind != common.ConnectionPlatform:
		return target{or(string(c.ref.Kind), string(common.ConnectionSecret)), or(c.ref.Namespace, p.Namespace), c.ref.Name, ""}, nil
	case c.ref != nil:
		return target{string(common.ConnectionPlatform), or(c.ref.Namespace, p.Namespace), c.ref.Name, info.Binding}, nil
	case info.BindingOptional:
		return target{}, nil
	case !platformv1alpha1.IsBackend(info.Binding):
		return target{}, reconcile.Stall(common.ReasonInvalidSpec, "%s.connectionRef: type %s needs one: name a Secret of type %s", c.path, c.typ, info.Binding)
	case p.Spec.PlatformRef != nil:
		return target{string(common.ConnectionPlatform), or(p.Spec.PlatformRef.Namespace, p.Namespace), p.Spec.PlatformRef.Name, info.Binding}, nil
	case only != "":
		return target{string(common.ConnectionPlatform), p.Namespace, only, info.Binding}, nil
	default:
		return target{}, reconcile.Wait(common.ReasonReferenceNotFound,
			"%s: namespace %s has no Platform, or several; create one, or set spec.platformRef or %s.connectionRef", c.path, p.Namespace, c.path)
	}
}

func or(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}

// onlyPlatform is the name of the namespace's only Platform; "" when there is none or more than one.
func onlyPlatform(ctx context.Context, c client.Reader, namespace string) (string, error) {
	var platforms platformv1alpha1.PlatformList
	if err := c.List(ctx, &platforms, client.InNamespace(namespace)); err != nil {
		return "", fmt.Errorf("list Platforms: %w", err)
	}
	if len(platforms.Items) != 1 {
		return "", nil
	}
	return platforms.Items[0].Name, nil
}

// resolve reads the binding of every component.
func (p *pass) resolve(ctx context.Context) error {
	only, err := onlyPlatform(ctx, p.c.Client, p.pipeline.Namespace)
	if err != nil {
		return err
	}
	p.only, p.connections = only, map[string]connection{}
	for _, c := range components(p.pipeline) {
		t, err := targetOf(p.pipeline, c, only)
		if err != nil {
			return err
		}
		if t.kind == "" || p.connections[t.String()].version != "" {
			continue
		}
		found, err := p.c.binding(ctx, p.pipeline, c.path, t)
		if err != nil {
			return err
		}
		p.connections[t.String()] = found
	}
	return nil
}

// connection is a resolved target.
type connection struct {
	binding backend.Binding
	version string // the Secret's UID and resource version
}

// binding reads the Secret behind a target.
func (c *Controller) binding(ctx context.Context, p *dataflowv1alpha1.Pipeline, path string, t target) (connection, error) {
	from := refs.From{Group: dataflowv1alpha1.GroupVersion.Group, Kind: ownerKind, Namespace: p.Namespace}
	if t.kind == string(common.ConnectionVaultSecret) {
		return c.vaultBinding(ctx, from, path+".connectionRef", t)
	}
	if t.kind == string(common.ConnectionSecret) {
		secret, err := c.Refs.Secret(ctx, path+".connectionRef", from, t.namespace, t.name)
		if err != nil {
			return connection{}, err
		}
		found := connectionOf(secret)
		if key := lacks(found.binding); key != "" {
			return connection{}, reconcile.Stall(common.ReasonInvalidSpec, "%s.connectionRef: Secret %s/%s lacks key %q, which a connection to %s needs; add it",
				path, secret.Namespace, secret.Name, key, found.binding.Type)
		}
		return found, nil
	}
	to := refs.To{Group: platformv1alpha1.GroupVersion.Group, Kind: "Platform", Namespace: t.namespace, Name: t.name}
	if err := c.Refs.Granted(ctx, path, from, to); err != nil {
		return connection{}, err
	}
	var platform platformv1alpha1.Platform
	err := c.Client.Get(ctx, client.ObjectKey{Namespace: t.namespace, Name: t.name}, &platform)
	if apierrors.IsNotFound(err) {
		return connection{}, reconcile.Wait(common.ReasonReferenceNotFound, "%s: Platform %s/%s does not exist; create it", path, t.namespace, t.name)
	}
	if err != nil {
		return connection{}, fmt.Errorf("%s: read Platform: %w", path, err)
	}
	if !platform.Spec.Backends.Has(t.backend) {
		return connection{}, reconcile.Stall(common.ReasonReferenceNotFound,
			"%s: Platform %s has no %s; add spec.backends.%s to it, or set %s.connectionRef", path, t.name, t.backend, t.backend, path)
	}
	row := platform.Status.Backend(t.backend)
	if row == nil || row.BindingSecret == "" {
		return connection{}, notReady(path, &platform, t.backend)
	}
	var secret corev1.Secret
	err = c.Client.Get(ctx, client.ObjectKey{Namespace: t.namespace, Name: row.BindingSecret}, &secret)
	if apierrors.IsNotFound(err) {
		return connection{}, notReady(path, &platform, t.backend)
	}
	if err != nil {
		return connection{}, fmt.Errorf("%s: read binding: %w", path, err)
	}
	return connectionOf(&secret), nil
}

func connectionOf(secret *corev1.Secret) connection {
	return connection{backend.ParseBinding(secret.Data), refs.VersionOf(secret)}
}

// lacks is the first key without which nothing can be reached; "" when the binding has all.
func lacks(b backend.Binding) string {
	switch b.Type {
	case "kafka":
		if len(b.Brokers()) == 0 {
			return "bootstrap-servers"
		}
	case "clickhouse", "postgresql", "redis", "rabbitmq":
		if b.Host == "" {
			return "host"
		}
	}
	return ""
}

func notReady(path string, platform *platformv1alpha1.Platform, name string) error {
	message := "it is being set up"
	if row := platform.Status.Backend(name); row != nil && row.Message != "" {
		message = row.Message
	}
	return reconcile.Wait(common.ReasonReferenceNotReady, "%s: %s of Platform %s is not Ready: %s", path, name, platform.Name, message)
}

// Directions of a connector, as in the catalogue.
const (
	kindSource = "source"
	kindSink   = "sink"
)

// connectorInfo is what the catalogue says of a connector; false when it is unknown.
func connectorInfo(kind, typ string) (*config.ConnectorInfo, bool) {
	catalogue, err := config.LoadCatalogue()
	if err != nil {
		return nil, false // validation reports it
	}
	return catalogue.Connector(kind, typ)
}
