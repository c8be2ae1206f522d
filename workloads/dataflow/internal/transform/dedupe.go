// SPDX-License-Identifier: Apache-2.0

package transform

import (
	"time"

	"github.com/zeebo/xxh3"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/internal/schema"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config/expr"
)

// DedupeConfig configures the type dedupe.
type DedupeConfig struct {
	Key    schema.CEL      `json:"key,omitempty" jsonschema:"description=What makes two records equal: a CEL expression of any type; default: the record's key, or its value when it has none"`
	Window config.Duration `json:"window,omitempty" jsonschema:"default=10m,description=How long a key is remembered"`
	Count  int             `json:"count,omitempty" jsonschema:"minimum=1,maximum=50000000,default=100000,description=The most keys that are remembered; about 64 bytes of memory each"`
}

// deduper remembers keys in the order of their first appearance, in this worker's memory: after a restart, and
// between replicas, a duplicate may pass.
type deduper struct {
	key    *evaluator
	window time.Duration
	count  int
	now    func() time.Time

	seen map[xxh3.Uint128]struct{}
	ring []sighting // a circular queue
	head int        // the oldest
	size int
}

type sighting struct {
	key xxh3.Uint128
	at  int64 // Unix nanoseconds
}

func dedupeSpec() Spec {
	return specOf("dedupe", "Drops records whose key was seen before, within a window of time and count.", newDedupe)
}

func newDedupe(cfg DedupeConfig, env Env) (any, error) {
	out := &deduper{window: time.Duration(cfg.Window), count: cfg.Count, now: env.Now, seen: map[xxh3.Uint128]struct{}{}}
	if cfg.Window <= 0 {
		return nil, errAt("window", "want more than zero")
	}
	if cfg.Key == "" {
		return out, nil
	}
	var err error
	out.key, err = compileCEL("key", cfg.Key, expr.Any, env)
	return out, err
}

// Keep reports whether the record's key is new.
func (d *deduper) Keep(r *record.Record) (bool, error) {
	key, err := d.hash(r)
	if err != nil {
		return false, err
	}
	now := d.now().UnixNano()
	for d.size > 0 && now-d.ring[d.head].at > int64(d.window) {
		d.forget()
	}
	if _, known := d.seen[key]; known {
		return false, nil
	}
	if d.size == d.count {
		d.forget()
	}
	d.remember(sighting{key, now})
	return true, nil
}

func (d *deduper) hash(r *record.Record) (xxh3.Uint128, error) {
	if d.key != nil {
		value, err := d.key.value(r)
		if err != nil {
			return xxh3.Uint128{}, err
		}
		text, err := canonical(value)
		return xxh3.HashString128(kindOf(value) + text), err
	}
	if len(r.Key) > 0 {
		return xxh3.Hash128(r.Key), nil
	}
	data, err := r.Bytes()
	return xxh3.Hash128(data), err
}

func (d *deduper) forget() {
	delete(d.seen, d.ring[d.head].key)
	d.head = (d.head + 1) % len(d.ring)
	d.size--
}

func (d *deduper) remember(s sighting) {
	if d.size == len(d.ring) { // grow, unrolled so that the oldest is first
		larger := make([]sighting, min(max(64, 2*len(d.ring)), d.count))
		n := copy(larger, d.ring[d.head:])
		copy(larger[n:], d.ring[:d.head])
		d.ring, d.head = larger, 0
	}
	d.ring[(d.head+d.size)%len(d.ring)] = s
	d.size++
	d.seen[s.key] = struct{}{}
}
