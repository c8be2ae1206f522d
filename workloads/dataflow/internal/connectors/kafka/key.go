// SPDX-License-Identifier: Apache-2.0

package kafka

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config/expr"
)

// keyFunc returns a record's key; nil is Kafka's null.
type keyFunc func(r *record.Record) ([]byte, error)

// fieldPath matches a plain path such as customer.id. Everything else is CEL.
var fieldPath = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*$`)

// variables are the first names that make a path a CEL expression.
var variables = map[string]bool{"this": true, "key": true, "headers": true, "timestamp": true}

func newKey(text string) (keyFunc, error) {
	if text == "" {
		return func(r *record.Record) ([]byte, error) { return r.Key, nil }, nil
	}
	if first, _, _ := strings.Cut(text, "."); fieldPath.MatchString(text) && !variables[first] {
		return fieldKey(text), nil
	}
	program, err := expr.Compile(text, expr.Any)
	if err != nil {
		return nil, err
	}
	return func(r *record.Record) ([]byte, error) {
		value, err := program.Eval(&view{r})
		if err != nil {
			return nil, err
		}
		return keyBytes(value)
	}, nil
}

func fieldKey(path string) keyFunc {
	missing := fmt.Errorf("record has no field %q", path)
	return func(r *record.Record) ([]byte, error) {
		found, err := r.Get(path)
		if err != nil {
			return nil, err
		}
		if !found.Exists() {
			return nil, missing
		}
		if found.IsObject() || found.IsArray() {
			return nil, errNotScalar
		}
		return []byte(found.String()), nil
	}
}

var errNotScalar = errors.New("want a string, number or bool, got an object or a list")

func keyBytes(value any) ([]byte, error) {
	switch v := value.(type) {
	case nil:
		return nil, nil
	case string:
		return []byte(v), nil
	case map[string]any, []any:
		return nil, errNotScalar
	default:
		return json.Marshal(v)
	}
}

// view exposes a record to an expression.
type view struct{ r *record.Record }

func (v *view) Raw() ([]byte, bool) { return v.r.Raw() }
func (v *view) Tree() (any, error)  { return v.r.Tree() }
func (v *view) Decoded() bool       { return v.r.Decoded() }
func (v *view) Key() string         { return string(v.r.Key) }
func (v *view) Time() time.Time     { return v.r.Time }
func (v *view) Now() time.Time      { return time.Now() }

func (v *view) Headers() map[string]string {
	headers := make(map[string]string, len(v.r.Headers))
	for _, h := range v.r.Headers {
		headers[h.Key] = string(h.Value)
	}
	return headers
}

// stickyRun is how many consecutive records without a key go to one partition: runs compress better and take
// fewer requests than single records.
const stickyRun = 512

// partitioner chooses partitions.
type partitioner struct {
	byKey kafkago.Balancer // nil: keys are ignored
	count int
	ids   []int
	next  int
}

func newPartitioner(name string) *partitioner {
	p := &partitioner{}
	switch name {
	case "roundrobin":
	case "hash":
		p.byKey = &kafkago.Hash{}
	default:
		p.byKey = kafkago.Murmur2Balancer{}
	}
	return p
}

func (p *partitioner) set(count int) {
	p.count = count
	p.ids = make([]int, count)
	for i := range p.ids {
		p.ids[i] = i
	}
}

func (p *partitioner) partitionOf(key []byte) int {
	switch {
	case p.count == 1:
		return 0
	case p.byKey != nil && key != nil:
		return p.byKey.Balance(kafkago.Message{Key: key}, p.ids...)
	case p.byKey == nil:
		p.next++
		return p.next % p.count
	default:
		p.next++
		return p.next / stickyRun % p.count
	}
}
