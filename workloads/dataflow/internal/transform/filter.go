// SPDX-License-Identifier: Apache-2.0

package transform

import (
	"errors"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
)

// FilterConfig configures the type filter; its predicate is the transform's `when`.
type FilterConfig struct {
	// Invert drops the records for which `when` is true.
	Invert bool `json:"invert,omitempty" jsonschema:"description=Drop the records for which 'when' is true instead of those for which it is false"`
}

type filter struct {
	when   func(*record.Record) (bool, error)
	invert bool
}

func filterSpec() Spec {
	return specOf(TypeFilter, "Keeps the records for which the CEL expression in 'when' is true.", newFilter)
}

func newFilter(cfg FilterConfig, env Env) (any, error) {
	if env.When == nil {
		return nil, errors.New(": a filter needs an expression in 'when'")
	}
	return &filter{when: env.When, invert: cfg.Invert}, nil
}

// Keep evaluates the predicate.
func (f *filter) Keep(r *record.Record) (bool, error) {
	keep, err := f.when(r)
	return keep != f.invert, err
}
