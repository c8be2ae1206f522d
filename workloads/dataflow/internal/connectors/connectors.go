// SPDX-License-Identifier: Apache-2.0

// Package connectors lists all connectors: a line per connector and direction.
package connectors

import (
	"github.com/itechsmart/operator/workloads/dataflow/internal/connector"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connectors/clickhouse"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connectors/drop"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connectors/file"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connectors/generate"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connectors/http"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connectors/kafka"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connectors/postgres"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connectors/s3"
)

// All returns every connector, ordered by type; a source precedes the sink of the same type.
func All() []connector.Spec {
	return []connector.Spec{
		clickhouse.Sink(),
		drop.Sink(),
		file.Source(),
		file.Sink(),
		generate.Source(),
		http.Source(),
		http.Sink(),
		kafka.Source(),
		kafka.Sink(),
		postgres.Source(),
		postgres.Sink(),
		s3.Source(),
		s3.Sink(),
	}
}
