// SPDX-License-Identifier: Apache-2.0

package transform

import (
	"math"
	"math/rand/v2"

	"github.com/zeebo/xxh3"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/internal/schema"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config/expr"
)

// SampleConfig configures the type sample.
type SampleConfig struct {
	Rate float64    `json:"rate" jsonschema:"required,minimum=0,maximum=1,description=The share of records to keep"`
	Key  schema.CEL `json:"key,omitempty" jsonschema:"description=A CEL expression: records for which it has the same value are all kept or all dropped; default: each at random"`
}

type sampler struct {
	rate float64
	key  *evaluator
}

func sampleSpec() Spec {
	return specOf("sample", "Keeps a share of the records, at random or by key.", func(cfg SampleConfig, env Env) (any, error) {
		out := &sampler{rate: cfg.Rate}
		if cfg.Key == "" {
			return out, nil
		}
		var err error
		out.key, err = compileCEL("key", cfg.Key, expr.Any, env)
		return out, err
	})
}

// Keep decides at random, or by the key.
func (s *sampler) Keep(r *record.Record) (bool, error) {
	if s.key == nil {
		return rand.Float64() < s.rate, nil
	}
	value, err := s.key.value(r)
	if err != nil {
		return false, err
	}
	text, err := canonical(value)
	return float64(xxh3.HashString(text)) < s.rate*math.MaxUint64 || s.rate == 1, err
}
