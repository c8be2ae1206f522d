// SPDX-License-Identifier: Apache-2.0

package dataflow

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	dataflowv1alpha1 "github.com/itechsmart/operator/api/dataflow/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/connections"
	"github.com/itechsmart/operator/controllers/internal/external"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/validation"
	"github.com/itechsmart/operator/internal/backend"
)

// Kinds of external objects.
const (
	kindTopic = "Topic"
	kindTable = "Table"
	// kindPostgresTable distinguishes a table in PostgreSQL from one in ClickHouse.
	kindPostgresTable = "PostgreSQLTable"
)

// declaration is one external object that a component names.
type declaration struct {
	path   string // spec.sinks[0].config
	kind   string
	name   string
	target connections.Target
	// shape is the specification: *topicShape or *tableShape.
	shape shape
}

// shape is the specification of an external object.
type shape interface {
	// declared reports whether the Pipeline specifies the object, and does not only name it.
	declared() bool
	// same reports whether one object satisfies both.
	same(other shape) bool
}

// reader returns the external objects that a component's configuration names, or what is invalid about them.
type reader func(c component) ([]declaration, field.ErrorList)

// readers has the connectors whose external objects the controller creates. A new connector adds a line.
var readers = map[string]reader{
	"kafka":      readTopics,
	"clickhouse": readTable,
	"postgres":   readPostgresTable,
}

// opener connects to the server of one kind of external object.
type opener func(c *Controller, b backend.Binding) (external.Driver[declaration], io.Closer, error)

// openers has the kinds of external objects.
var openers = map[string]opener{
	kindTopic:         openTopics,
	kindTable:         openTables,
	kindPostgresTable: openPostgresTables,
}

// declarations returns the external objects that a Pipeline names, each once. It refuses components that differ about one.
func declarations(p *dataflowv1alpha1.Pipeline, only string) ([]declaration, error) {
	byKey := map[string]int{}
	var out []declaration
	for _, c := range components(p) {
		read, ok := readers[c.typ]
		if !ok {
			continue
		}
		t, err := targetOf(p, c, only)
		if err != nil {
			return nil, err
		}
		found, invalid := read(c)
		if len(invalid) > 0 {
			return nil, reconcile.Invalid(invalid)
		}
		for _, d := range found {
			d.target = t
			key := d.kind + "|" + t.String() + "|" + normalName(d.kind, d.name)
			at, twice := byKey[key]
			switch {
			case !twice:
				byKey[key] = len(out)
				out = append(out, d)
			case out[at].name != d.name || (out[at].shape.declared() && d.shape.declared() && !out[at].shape.same(d.shape)):
				return nil, reconcile.Stall(common.ReasonConflict, "%s: %s %q is declared differently at %s", d.path, d.kind, d.name, out[at].path)
			case d.shape.declared():
				out[at] = d
			}
		}
	}
	return out, nil
}

func nameOf(d declaration) string { return d.name }

func normalName(kind, name string) string {
	if kind == kindTopic {
		return normalTopic(name)
	}
	return name
}

// decode reads the part of a connector's configuration that concerns external objects. Validation reports unknown keys.
func decode(c component, into any) field.ErrorList {
	if len(c.config) == 0 {
		return nil
	}
	if err := json.Unmarshal(c.config, into); err != nil {
		return field.ErrorList{validation.Errorf(c.path+".config", "%v", err)}
	}
	return nil
}

// groups splits declarations by kind and server, in a stable order.
func groups(declared []declaration) [][]declaration {
	byKey := map[string][]declaration{}
	for _, d := range declared {
		key := d.kind + "|" + d.target.String()
		byKey[key] = append(byKey[key], d)
	}
	out := make([][]declaration, 0, len(byKey))
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		out = append(out, byKey[key])
	}
	return out
}

// ensureExternal makes every declared object as specified.
func (c *Controller) ensureExternal(ctx context.Context, owner external.Owner, declared []declaration, found map[string]connections.Found) ([]common.ExternalObject, error) {
	var plans []external.Plan
	for _, group := range groups(declared) {
		connectionName := group[0].target.String()
		driver, closer, err := openers[group[0].kind](c, found[connectionName].Binding)
		if err != nil {
			return nil, external.Explain(group[0].kind, group[0].name, err)
		}
		defer closer.Close() //nolint:errcheck // every answer was read
		plan, err := external.Diff(ctx, owner, driver, connectionName, group)
		if err != nil {
			return nil, err
		}
		plans = append(plans, plan)
	}
	return external.Apply(ctx, owner, plans...)
}

// knownExternal returns what ensureExternal would, without asking a server.
func knownExternal(owner external.Owner, declared []declaration) ([]common.ExternalObject, error) {
	claimed, err := owner.Claimed()
	if err != nil {
		return nil, err
	}
	var out []common.ExternalObject
	for _, group := range groups(declared) {
		for _, d := range group {
			owned := claimed(external.Claim{Kind: d.kind, Name: d.name, Connection: d.target.String()})
			out = append(out, common.ExternalObject{Kind: d.kind, Name: d.name, Owned: owned})
		}
	}
	return out, nil
}

// drop removes what the Pipeline created. When a connection no longer exists, its objects count as removed with the server.
func (p *pass) drop(ctx context.Context) error {
	claims, err := p.owner().Claims()
	if err != nil {
		return err
	}
	for _, claim := range claims {
		t, ok := connections.ParseTarget(claim.Connection)
		open := openers[claim.Kind]
		if !ok || open == nil {
			return claim.Unreadable()
		}
		found, err := p.c.binding(ctx, p.pipeline, "spec", t)
		if gone(err) {
			continue
		}
		if err != nil {
			return err
		}
		if err := p.c.dropOne(ctx, open, found.Binding, claim); err != nil {
			return err
		}
	}
	return nil
}

func (c *Controller) dropOne(ctx context.Context, open opener, b backend.Binding, claim external.Claim) error {
	driver, closer, err := open(c, b)
	if err != nil {
		return external.Explain(claim.Kind, claim.Name, err)
	}
	defer closer.Close() //nolint:errcheck // the answer was read
	return external.Drop(ctx, driver, claim)
}

func (p *pass) owner() external.Owner { return external.Owner{Client: p.c.Client, Object: p.pipeline} }

// gone reports whether a connection no longer exists, rather than cannot be read now.
func gone(err error) bool {
	if err == nil {
		return false
	}
	reason, _ := reconcile.Classify(err)
	return reason == common.ReasonReferenceNotFound
}
