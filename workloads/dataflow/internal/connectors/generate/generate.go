// SPDX-License-Identifier: Apache-2.0

// Package generate is a source of generated records: for trying out a pipeline, for load and for tests.
package generate

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connector"
	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
)

// Config describes what to generate, how much and how fast.
type Config struct {
	Count int64 `json:"count,omitempty" jsonschema:"minimum=0,default=0,description=How many records to make; 0 means without end"`
	Rate  int64 `json:"rate,omitempty" jsonschema:"minimum=0,default=0,description=Records per second; 0 means as fast as they are read"`
	Size  int   `json:"size,omitempty" jsonschema:"minimum=0,maximum=16777216,default=0,description=Pads the value to about this many bytes with a field named padding; 0 means no padding"`
	Keys  int64 `json:"keys,omitempty" jsonschema:"minimum=0,default=0,description=How many distinct keys the records cycle through; 0 means no key"`
	Batch int   `json:"batch,omitempty" jsonschema:"minimum=0,maximum=100000,default=0,description=Records per read; 0 means the pipeline's batching.count"`
	// Sequence is the field with the record's number.
	Sequence string         `json:"sequence,omitempty" jsonschema:"pattern=^[A-Za-z_][A-Za-z0-9_]*$,default=sequence,description=Name of the field that holds the record's number from 0"`
	Value    map[string]any `json:"value,omitempty" jsonschema:"description=Further fields that every record has"`
}

// Source describes the connector.
func Source() connector.Spec {
	return connector.SourceOf(connector.Spec{
		Type:    "generate",
		Summary: "Generates JSON records with a sequence number, at a given rate or as fast as possible.",
	}, open)
}

// width is the space for a sequence number: the digits of the largest int64.
const width = 19

// maxReadBytes bounds one read, whatever the record's size.
const maxReadBytes = 4 << 20

type source struct {
	cfg      Config
	batch    int
	template []byte // a record with spaces where the number goes
	at       int    // the number's offset in template
	next     int64
	started  time.Time
}

func open(_ context.Context, cfg Config, env connector.Env) (connector.Source, error) {
	if cfg.Sequence == "" {
		cfg.Sequence = "sequence"
	}
	if _, taken := cfg.Value[cfg.Sequence]; taken {
		return nil, fmt.Errorf("config.value: field %q is the sequence's: %w", cfg.Sequence, backend.ErrInvalid)
	}
	s := &source{cfg: cfg}
	if err := s.build(); err != nil {
		return nil, err
	}
	s.batch = cfg.Batch
	if s.batch == 0 {
		s.batch = env.Batching.Count
	}
	s.batch = max(1, min(s.batch, maxReadBytes/len(s.template)))
	if cfg.Rate > 0 {
		// Ten reads a second keep the flow even.
		s.batch = max(1, min(s.batch, int(cfg.Rate/10)))
	}
	return s, nil
}

// build builds the template: {"sequence":<19 spaces>,…,"padding":"…"}. Spaces before a number are valid JSON,
// so each record is one copy and a few digits.
func (s *source) build() error {
	var out bytes.Buffer
	fmt.Fprintf(&out, "{%q:", s.cfg.Sequence)
	s.at = out.Len()
	out.Write(bytes.Repeat([]byte{' '}, width))
	if len(s.cfg.Value) > 0 {
		value, err := json.Marshal(s.cfg.Value)
		if err != nil {
			return fmt.Errorf("config.value: %w: %w", err, backend.ErrInvalid)
		}
		out.WriteByte(',')
		out.Write(value[1 : len(value)-1])
	}
	const frame = len(`,"padding":""}`)
	if pad := s.cfg.Size - out.Len() - frame; pad > 0 {
		fmt.Fprintf(&out, `,"padding":%q`, bytes.Repeat([]byte{'x'}, pad))
	}
	out.WriteByte('}')
	s.template = out.Bytes()
	return nil
}

// Read generates one batch; with a rate it first waits until the batch is due.
func (s *source) Read(ctx context.Context) (*record.Batch, error) {
	count := int64(s.batch)
	if s.cfg.Count > 0 {
		count = min(count, s.cfg.Count-s.next)
	}
	if count <= 0 {
		return nil, connector.ErrFinished
	}
	if err := s.wait(ctx); err != nil {
		return nil, err
	}
	size := len(s.template)
	arena := make([]byte, int(count)*size)
	records := make([]record.Record, count)
	now := time.Now()
	for i := range records {
		value := arena[i*size : (i+1)*size : (i+1)*size]
		copy(value, s.template)
		s.number(value, s.next)
		records[i] = record.New(value)
		records[i].Time = now
		if s.cfg.Keys > 0 {
			records[i].Key = strconv.AppendInt(nil, s.next%s.cfg.Keys, 10)
		}
		s.next++
	}
	return &record.Batch{Records: records, Position: s.next}, nil
}

// number writes n right-aligned into the template's gap.
func (s *source) number(value []byte, n int64) {
	for at := s.at + width - 1; at >= s.at; at-- {
		value[at] = byte('0' + n%10)
		if n /= 10; n == 0 {
			return
		}
	}
}

func (s *source) wait(ctx context.Context) error {
	if s.started.IsZero() {
		s.started = time.Now()
	}
	if s.cfg.Rate == 0 {
		return ctx.Err()
	}
	due := s.started.Add(time.Duration(float64(s.next) / float64(s.cfg.Rate) * float64(time.Second)))
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// Ack stores nothing: a restart begins at 0 again.
func (s *source) Ack(context.Context, []*record.Batch) error { return nil }

// Close has nothing to release.
func (s *source) Close(context.Context) error { return nil }
