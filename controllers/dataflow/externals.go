// SPDX-License-Identifier: Apache-2.0

package dataflow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	dataflowv1alpha1 "github.com/itechsmart/operator/api/dataflow/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/external"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/internal/backend"
)

// Kinds of external objects.
const (
	kindTopic = "Topic"
	kindTable = "Table"
	// kindPostgresTable tells a table of PostgreSQL from one of ClickHouse.
	kindPostgresTable = "PostgreSQLTable"
)

// declaration is one external object that a component names.
type declaration struct {
	path   string // spec.sinks[0].config
	kind   string
	name   string
	target target
	// shape is the specification: *topicShape or *tableShape.
	shape shape
}

// shape is the specification of an external object.
type shape interface {
	// declared: the Pipeline says how the object is to look, not only its name.
	declared() bool
	// same: the other is satisfied by the same object.
	same(other shape) bool
}

// reader turns a component's configuration into the external objects that it names.
type reader func(c component) ([]declaration, error)

// readers are the connectors whose external objects the controller ensures: a connector adds one line.
var readers = map[string]reader{
	"kafka":      readTopics,
	"clickhouse": readTable,
	"postgres":   readPostgresTable,
}

// ensurers make external objects, by kind.
var ensurers = map[string]func(*Controller, context.Context, external.Owner, string, backend.Binding, []declaration) ([]common.ExternalObject, error){
	kindTopic:         (*Controller).ensureTopics,
	kindTable:         (*Controller).ensureTables,
	kindPostgresTable: (*Controller).ensurePostgresTables,
}

// droppers remove an external object by its claim's name; a missing one counts as done.
var droppers = map[string]func(*Controller, context.Context, backend.Binding, string) error{
	kindTopic:         (*Controller).dropTopic,
	kindTable:         (*Controller).dropTable,
	kindPostgresTable: (*Controller).dropPostgresTable,
}

// declarations are all external objects that a Pipeline names, one per object. Components that differ about one object are refused.
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
		found, err := read(c)
		if err != nil {
			return nil, err
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

func normalName(kind, name string) string {
	if kind == kindTopic {
		return normalTopic(name)
	}
	return name
}

// decode reads the part of a connector's configuration that concerns external objects; unknown keys are validation's to report.
func decode(c component, into any) error {
	if len(c.config) == 0 {
		return nil
	}
	if err := json.Unmarshal(c.config, into); err != nil {
		return reconcile.Stall(dataflowv1alpha1.ReasonInvalidConfig, "%s.config: %v", c.path, err)
	}
	return nil
}

// ensureExternal makes every declared object as specified, grouped by kind and server.
func (c *Controller) ensureExternal(ctx context.Context, owner external.Owner, declared []declaration, connections map[string]connection) ([]common.ExternalObject, error) {
	groups := map[string][]declaration{}
	for _, d := range declared {
		key := d.kind + "|" + d.target.String()
		groups[key] = append(groups[key], d)
	}
	keys := make([]string, 0, len(groups))
	for key := range groups {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	var out []common.ExternalObject
	for _, key := range keys {
		group := groups[key]
		connectionName := group[0].target.String()
		objects, err := ensurers[group[0].kind](c, ctx, owner, connectionName, connections[connectionName].binding, group)
		if err != nil {
			return nil, err
		}
		out = append(out, objects...)
	}
	return out, nil
}

// drop removes what the Pipeline created. A server whose connection no longer exists took its objects along.
func (p *pass) drop(ctx context.Context) error {
	owner := external.Owner{Client: p.c.Client, Object: p.pipeline}
	claims, err := owner.Claims()
	if err != nil {
		return err
	}
	for _, claim := range claims {
		t, ok := parseTarget(claim.Connection)
		dropper := droppers[claim.Kind]
		if !ok || dropper == nil {
			return reconcile.Stall(common.ReasonInvalidSpec,
				"annotation %s names %s %q on %q, which cannot be understood; remove that entry to go on", external.AnnotationClaims, claim.Kind, claim.Name, claim.Connection)
		}
		found, err := p.c.binding(ctx, p.pipeline, "spec", t)
		if gone(err) {
			continue
		}
		if err != nil {
			return err
		}
		if err := dropper(p.c, ctx, found.binding, claim.Name); err != nil && !errors.Is(err, backend.ErrNotFound) {
			return external.Explain(claim.Kind, claim.Name, fmt.Errorf("delete: %w", err))
		}
	}
	return nil
}

// gone tells that a connection does not exist any more, rather than that it cannot be read now.
func gone(err error) bool {
	if err == nil {
		return false
	}
	reason, _ := reconcile.Classify(err)
	return reason == common.ReasonReferenceNotFound
}

func parseTarget(text string) (target, bool) {
	parts := strings.Split(text, "/")
	switch {
	case len(parts) == 3 && parts[0] == string(common.ConnectionSecret):
		return target{parts[0], parts[1], parts[2], ""}, true
	case len(parts) == 4 && parts[0] == string(common.ConnectionPlatform):
		return target{parts[0], parts[1], parts[2], parts[3]}, true
	}
	return target{}, false
}
