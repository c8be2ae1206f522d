// SPDX-License-Identifier: Apache-2.0

// Package drop is a sink that counts records and discards them: for measuring and for dry runs.
package drop

import (
	"context"

	"github.com/itechsmart/operator/workloads/dataflow/internal/connector"
	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
)

// Config has no fields.
type Config struct{}

// Sink describes the connector.
func Sink() connector.Spec {
	return connector.SinkOf(connector.Spec{
		Type:    "drop",
		Summary: "Accepts every record and discards it; the pipeline's counters still count it.",
	}, func(context.Context, Config, connector.Env) (connector.Sink, error) { return sink{}, nil })
}

type sink struct{}

func (sink) Write(ctx context.Context, _ *record.Batch) error { return ctx.Err() }
func (sink) Close(context.Context) error                      { return nil }
