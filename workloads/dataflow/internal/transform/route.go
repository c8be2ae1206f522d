// SPDX-License-Identifier: Apache-2.0

package transform

import (
	"fmt"
	"slices"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/internal/schema"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config/expr"
)

// RouteConfig configures the type route.
type RouteConfig struct {
	Routes  []Route  `json:"routes" jsonschema:"required,minItems=1"`
	Match   string   `json:"match,omitempty" jsonschema:"enum=First,enum=All,default=First,description=Whether a record takes its first route or all that match"`
	Default []string `json:"default,omitempty" jsonschema:"description=Names of the sinks for records that match no route; without it they are dropped"`
}

// Route sends the records for which When is true to Sinks.
type Route struct {
	When  schema.CELBool `json:"when" jsonschema:"required"`
	Sinks []string       `json:"sinks" jsonschema:"required,minItems=1,description=Names of the pipeline's sinks"`
}

type router struct {
	when      []*matcher
	sinks     [][]string
	all       bool
	otherwise []string
}

func routeSpec() Spec {
	return specOf("route", "Routes records to some of the pipeline's sinks by CEL expressions.", newRoute)
}

func newRoute(cfg RouteConfig, env Env) (any, error) {
	out := &router{all: cfg.Match == "All", otherwise: cfg.Default}
	for i, route := range cfg.Routes {
		program, err := expr.Compile(string(route.When), expr.Bool)
		if err != nil {
			return nil, fmt.Errorf(".routes[%d].when: %w", i, err)
		}
		out.when, out.sinks = append(out.when, newMatcher(program, env.Now)), append(out.sinks, route.Sinks)
	}
	return out, nil
}

// Keep sets the record's sinks; a record without any is dropped.
func (t *router) Keep(r *record.Record) (bool, error) {
	var sinks []string
	for i, when := range t.when {
		matches, err := when.match(r)
		if err != nil {
			return false, fmt.Errorf("routes[%d]: %w", i, err)
		}
		if !matches {
			continue
		}
		if !t.all {
			r.Sinks = t.sinks[i]
			return true, nil
		}
		for _, sink := range t.sinks[i] {
			if !slices.Contains(sinks, sink) {
				sinks = append(sinks, sink)
			}
		}
	}
	if len(sinks) == 0 {
		sinks = t.otherwise
	}
	r.Sinks = sinks
	return len(sinks) > 0, nil
}
