// SPDX-License-Identifier: Apache-2.0

// Package connector is the contract between the engine and every source and sink. A connector is one small
// package: a Config struct, from which its JSON Schema is derived, and a constructor. The engine never names a
// connector.
package connector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/dataflow/internal/codec"
	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

// ErrFinished is returned by Read after a bounded source's last batch.
var ErrFinished = errors.New("source finished")

// Env is the environment of a connector.
type Env struct {
	// Pipeline is "namespace/name"; Component is the source's or sink's name.
	Pipeline, Component string
	// Group is the consumer group, the name under which a source stores its position.
	Group string
	// Binding is the connection; the zero value when the component has none.
	Binding backend.Binding
	// Codec is never nil: the configured one, or the connector's default.
	Codec codec.Codec
	// Batching is the batch size the engine prefers; a hint.
	Batching config.Batching
	// MaxRecordBytes bounds one record; Read must not buffer more than this for one.
	MaxRecordBytes int64
	Log            *slog.Logger
}

// Source reads batches. The engine calls Read from one goroutine and Ack from
// another; Ack is called in the order of Read, once per batch, after every sink
// has acknowledged that batch.
type Source interface {
	// Read blocks until there are records, and returns them as they arrive: it does not wait to fill a batch.
	// It returns ErrFinished (and no batch) when a bounded source has no more. Any other error is retried with
	// back-off; wrap backend.ErrInvalid when retrying cannot help.
	Read(ctx context.Context) (*record.Batch, error)
	// Ack makes the batch's position durable: it is not read again after a restart. Several batches may be
	// acknowledged at once by their last position.
	Ack(ctx context.Context, batches []*record.Batch) error
	// Close releases all resources. Unacknowledged records are read again after a restart.
	Close(ctx context.Context) error
}

// Lagger is a Source that can count the records behind its position.
type Lagger interface {
	Lag(ctx context.Context) (int64, error)
}

// Sink writes batches. The engine calls Write from one goroutine.
type Sink interface {
	// Write returns nil when all the records are durable at the destination. A *record.Errors lists records
	// that are permanently refused, while all others are durable. Any other error is retried with the same
	// batch, unless it wraps backend.ErrInvalid: then the engine splits the batch to find the refused records.
	// Write must not retain the batch or change its records.
	Write(ctx context.Context, batch *record.Batch) error
	Close(ctx context.Context) error
}

// Kind distinguishes sources from sinks.
type Kind string

const (
	KindSource Kind = "source"
	KindSink   Kind = "sink"
)

// Spec describes a connector type: one line in package connectors' list.
type Spec struct {
	Type    string // the name in a Pipeline's `type`
	Kind    Kind
	Summary string // one sentence for the catalogue
	Binding string // the binding type it needs: kafka, postgresql, …; "" for none
	// BindingOptional: the connector also works without a connection.
	BindingOptional bool
	// Codec is the default format: "json", "raw", …; "" when codecs do not apply.
	Codec string
	// Overlaps: two workers may read this source at once and share its records (a consumer group). Sources
	// without it are limited to one replica.
	Overlaps bool
	// Config points to the connector's zero Config; the JSON Schema is derived from its struct tags.
	Config any
	// NewSource or NewSink connects. It must fail before ctx ends if the destination cannot be reached.
	NewSource func(ctx context.Context, cfg any, env Env) (Source, error)
	NewSink   func(ctx context.Context, cfg any, env Env) (Sink, error)
}

// SourceOf builds a Spec from a typed constructor.
func SourceOf[C any](spec Spec, open func(ctx context.Context, cfg C, env Env) (Source, error)) Spec {
	spec.Kind, spec.Config = KindSource, new(C)
	spec.NewSource = func(ctx context.Context, cfg any, env Env) (Source, error) {
		typed, ok := cfg.(*C)
		if !ok {
			return nil, fmt.Errorf("%s: config of type %T: %w", spec.Type, cfg, backend.ErrInvalid)
		}
		return open(ctx, *typed, env)
	}
	return spec
}

// SinkOf builds a Spec from a typed constructor.
func SinkOf[C any](spec Spec, open func(ctx context.Context, cfg C, env Env) (Sink, error)) Spec {
	spec.Kind, spec.Config = KindSink, new(C)
	spec.NewSink = func(ctx context.Context, cfg any, env Env) (Sink, error) {
		typed, ok := cfg.(*C)
		if !ok {
			return nil, fmt.Errorf("%s: config of type %T: %w", spec.Type, cfg, backend.ErrInvalid)
		}
		return open(ctx, *typed, env)
	}
	return spec
}
