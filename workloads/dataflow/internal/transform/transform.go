// SPDX-License-Identifier: Apache-2.0

// Package transform holds the steps between sources and sinks. A transform is one file: a Config struct, from
// which its JSON Schema is derived, and a constructor in the package's one list.
//
// A transform implements the smallest of four behaviours that is enough: Keeper (drop or not), Mapper (one
// record in place), Reshaper (any number for one), Transform (a batch at once). The Chain handles `when`,
// onError and counts.
package transform

import (
	"context"
	"time"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
)

// Keeper decides whether to keep a record.
type Keeper interface {
	Keep(r *record.Record) (bool, error)
}

// Mapper changes one record in place. On error the record is handled by the
// transform's onError policy, with the value it had when it entered the chain.
type Mapper interface {
	Map(ctx context.Context, r *record.Record) error
}

// Reshaper returns any number of records for one.
type Reshaper interface {
	// Reshape appends the results for one record to out; none drops it. On error the record is handled by the
	// transform's onError policy.
	Reshape(ctx context.Context, r *record.Record, out []record.Record) ([]record.Record, error)
}

// Transform changes a batch in place. Apply is called from one goroutine.
type Transform interface {
	// Apply may change and reorder batch.Records, which are those that `when` selects, but not add or drop any.
	// Records that cannot be processed are reported in a *record.Errors by their index in the batch after
	// Apply; any other error stops the pipeline.
	Apply(ctx context.Context, batch *record.Batch) error
}

// Env is the environment of a transform.
type Env struct {
	// When is the transform's compiled `when`; nil: every record. The Chain applies it,
	// except for the type `filter`, whose predicate it is.
	When func(r *record.Record) (bool, error)
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Spec describes a transform type: one line in the package's list.
type Spec struct {
	Type    string
	Summary string
	// Config points to the transform's zero Config; the JSON Schema is derived from its struct tags.
	Config any
	// New returns a Keeper, a Mapper, a Reshaper or a Transform. Its errors start with the path below the
	// transform's config: ".fields: …".
	New func(cfg any, env Env) (any, error)
}

// specOf builds a Spec from a typed constructor.
func specOf[C any](kind, summary string, build func(cfg C, env Env) (any, error)) Spec {
	return Spec{Type: kind, Summary: summary, Config: new(C), New: func(cfg any, env Env) (any, error) {
		return build(*cfg.(*C), env)
	}}
}
