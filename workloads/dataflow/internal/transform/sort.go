// SPDX-License-Identifier: Apache-2.0

package transform

import (
	"context"
	"fmt"
	"sort"
	"strings"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/internal/schema"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config/expr"
)

// SortConfig configures the type sort.
type SortConfig struct {
	By []SortKey `json:"by" jsonschema:"required,minItems=1,description=Keys in order of precedence"`
}

// SortKey is one key to sort by.
type SortKey struct {
	Expression schema.CEL `json:"expression" jsonschema:"required,description=A CEL expression; null comes before booleans\\, numbers and texts"`
	Order      string     `json:"order,omitempty" jsonschema:"enum=Ascending,enum=Descending,default=Ascending"`
}

type sorter struct {
	keys       []*evaluator
	descending []bool
}

func sortSpec() Spec {
	return specOf("sort", "Sorts the records within each batch.", newSort)
}

func newSort(cfg SortConfig, env Env) (any, error) {
	out := &sorter{}
	for i, key := range cfg.By {
		compiled, err := compileCEL(fmt.Sprintf("by[%d].expression", i), key.Expression, expr.Any, env)
		if err != nil {
			return nil, err
		}
		out.keys, out.descending = append(out.keys, compiled), append(out.descending, key.Order == "Descending")
	}
	return out, nil
}

// sortable is a record with its keys; err sorts it last.
type sortable struct {
	record record.Record
	keys   []any
	err    error
}

// Apply sorts stably; records without a usable key come last and are reported.
func (s *sorter) Apply(_ context.Context, batch *record.Batch) error {
	items := make([]sortable, len(batch.Records))
	for i := range items {
		items[i].record = batch.Records[i]
		items[i].keys, items[i].err = s.keysOf(&items[i].record)
	}
	sort.SliceStable(items, func(i, j int) bool { return s.less(&items[i], &items[j]) })
	var failed record.Errors
	for i := range items {
		batch.Records[i] = items[i].record
		if items[i].err != nil {
			failed.Add(i, items[i].err)
		}
	}
	return failed.OrNil()
}

func (s *sorter) keysOf(r *record.Record) ([]any, error) {
	keys := make([]any, len(s.keys))
	for i, key := range s.keys {
		value, err := key.value(r)
		if err != nil {
			return nil, fmt.Errorf("by[%d]: %w", i, err)
		}
		if rank(value) < 0 {
			return nil, fmt.Errorf("by[%d]: cannot sort by %s", i, article(value))
		}
		keys[i] = value
	}
	return keys, nil
}

func (s *sorter) less(a, b *sortable) bool {
	if a.err != nil || b.err != nil {
		return a.err == nil && b.err != nil
	}
	for i := range s.keys {
		order := compare(a.keys[i], b.keys[i])
		if s.descending[i] {
			order = -order
		}
		if order != 0 {
			return order < 0
		}
	}
	return false
}

func rank(value any) int {
	switch value.(type) {
	case nil:
		return 0
	case bool:
		return 1
	case int64, float64:
		return 2
	case string:
		return 3
	default:
		return -1
	}
}

func compare(a, b any) int {
	if ra, rb := rank(a), rank(b); ra != rb {
		return ra - rb
	}
	switch x := a.(type) {
	case bool:
		y := b.(bool)
		switch {
		case x == y:
			return 0
		case y:
			return -1
		}
		return 1
	case string:
		return strings.Compare(x, b.(string))
	case nil:
		return 0
	}
	if x, ok := a.(int64); ok {
		if y, ok := b.(int64); ok {
			return order(x, y)
		}
	}
	return order(asFloat(a), asFloat(b))
}

func order[N int64 | float64](a, b N) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func asFloat(value any) float64 {
	if whole, ok := value.(int64); ok {
		return float64(whole)
	}
	float, _ := value.(float64)
	return float
}
