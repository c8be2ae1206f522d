// SPDX-License-Identifier: Apache-2.0

// Package clickhouse is a sink that inserts batches into a ClickHouse table.
package clickhouse

import (
	"github.com/itechsmart/operator/workloads/dataflow/internal/connector"
)

// Config of the sink. The controller creates and evolves the table by Create, Engine, Columns, OrderBy,
// PartitionBy and TTL; the worker does not change the table.
type Config struct {
	Database string `json:"database,omitempty" jsonschema:"default=default,pattern=^[A-Za-z_][A-Za-z0-9_]*$,description=The table's database."`
	Table    string `json:"table" jsonschema:"required,pattern=^[A-Za-z_][A-Za-z0-9_]*$,description=The table that gets one row per record."`

	Create      bool     `json:"create,omitempty" jsonschema:"default=false,description=Create the table from columns and orderBy when it does not exist and add new columns."`
	Engine      string   `json:"engine,omitempty" jsonschema:"default=MergeTree,enum=MergeTree,enum=ReplacingMergeTree,enum=SummingMergeTree,enum=AggregatingMergeTree,enum=CollapsingMergeTree,enum=VersionedCollapsingMergeTree,enum=ReplicatedMergeTree,enum=ReplicatedReplacingMergeTree,enum=ReplicatedSummingMergeTree,enum=ReplicatedAggregatingMergeTree,description=Engine of a table that is made."`
	Columns     []Column `json:"columns,omitempty" jsonschema:"description=Columns of a table that is created."`
	OrderBy     []string `json:"orderBy,omitempty" jsonschema:"description=Sorting key of a table that is created: column names or expressions."`
	PartitionBy string   `json:"partitionBy,omitempty" jsonschema:"description=Partition expression of a table that is created."`
	TTL         string   `json:"ttl,omitempty" jsonschema:"description=TTL expression of a table that is created; such as at + INTERVAL 30 DAY."`

	UnknownFields string `json:"unknownFields,omitempty" jsonschema:"default=Ignore,enum=Ignore,enum=Fail,description=What to do with a record's fields that are not columns."`
	AsyncInsert   bool   `json:"asyncInsert,omitempty" jsonschema:"default=false,description=Let the server combine inserts of several writers into one part; the sink still waits until the rows are stored."`
	Compression   string `json:"compression,omitempty" jsonschema:"default=none,enum=none,enum=lz4,description=Compression of requests; lz4 pays off on a network slower than 1 Gbit/s."`
}

// Column of a table that is created.
type Column struct {
	Name    string `json:"name" jsonschema:"required,pattern=^[A-Za-z_][A-Za-z0-9_]*$,description=Name of the column and of the record's field."`
	Type    string `json:"type" jsonschema:"required,minLength=1,description=ClickHouse type such as LowCardinality(String) or DateTime64(3)."`
	Default string `json:"default,omitempty" jsonschema:"description=Default expression."`
}

// Sink describes the connector.
func Sink() connector.Spec {
	return connector.SinkOf(connector.Spec{
		Type:    "clickhouse",
		Summary: "Inserts each batch of JSON objects into a ClickHouse table; fields become columns of the same name.",
		Binding: "clickhouse",
	}, open)
}
