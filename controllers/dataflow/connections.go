// SPDX-License-Identifier: Apache-2.0

package dataflow

import (
	"cmp"
	"context"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	dataflowv1alpha1 "github.com/itechsmart/operator/api/dataflow/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/connections"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/refs"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

// component is a source, a sink or the dead letter.
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

// targetOf returns the server that a component connects to, or the zero Target when it needs none.
// only is the namespace's only Platform, or "" when there is none or more than one.
func targetOf(p *dataflowv1alpha1.Pipeline, c component, only string) (connections.Target, error) {
	info, ok := connectorInfo(c.kind, c.typ)
	if !ok || info.Binding == "" {
		return connections.Target{}, nil // validation reports an unknown type
	}
	switch {
	case c.ref != nil:
		return connections.TargetOf(c.ref, p.Namespace, info.Binding), nil
	case info.BindingOptional:
		return connections.Target{}, nil
	case p.Spec.PlatformRef != nil:
		return connections.PlatformTarget(cmp.Or(p.Spec.PlatformRef.Namespace, p.Namespace), p.Spec.PlatformRef.Name, info.Binding), nil
	case only != "":
		return connections.PlatformTarget(p.Namespace, only, info.Binding), nil
	default:
		return connections.Target{}, reconcile.Wait(common.ReasonReferenceNotFound,
			"%s: namespace %s has no Platform, or several; create one, or set spec.platformRef or %s.connectionRef", c.path, p.Namespace, c.path)
	}
}

// onlyPlatform returns the name of the namespace's only Platform, or "" when there is none or more than one.
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
	p.only, p.connections = only, map[string]connections.Found{}
	for _, c := range components(p.pipeline) {
		t, err := targetOf(p.pipeline, c, only)
		if err != nil {
			return err
		}
		if t.Kind == "" || p.connections[t.String()].Version != "" {
			continue
		}
		found, err := p.c.binding(ctx, p.pipeline, c.path+".connectionRef", t)
		if err != nil {
			return err
		}
		p.connections[t.String()] = found
	}
	return nil
}

// binding reads the Secret behind a target.
func (c *Controller) binding(ctx context.Context, p *dataflowv1alpha1.Pipeline, path string, t connections.Target) (connections.Found, error) {
	from := refs.From{Group: dataflowv1alpha1.GroupVersion.Group, Kind: ownerKind, Namespace: p.Namespace}
	return connections.Resolver{Client: c.Client, Refs: c.Refs}.Binding(ctx, from, path, t)
}

// Directions of a connector, as in the catalogue.
const (
	kindSource = "source"
	kindSink   = "sink"
)

// connectorInfo returns a connector's entry in the catalogue. It returns false for an unknown one.
func connectorInfo(kind, typ string) (*config.ConnectorInfo, bool) {
	catalogue, err := config.LoadCatalogue()
	if err != nil {
		return nil, false // validation reports it
	}
	return catalogue.Connector(kind, typ)
}
