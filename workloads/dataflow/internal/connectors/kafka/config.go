// SPDX-License-Identifier: Apache-2.0

// Package kafka reads and writes Kafka topics.
package kafka

import (
	"fmt"
	"slices"
	"time"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connector"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

// TopicSpec describes how to create a missing topic. The Pipeline's controller does that; the worker ignores
// it.
type TopicSpec struct {
	Partitions        int               `json:"partitions,omitempty" jsonschema:"minimum=1,maximum=10000,description=Partitions of a topic that is created; they can be raised later and never lowered"`
	ReplicationFactor int               `json:"replicationFactor,omitempty" jsonschema:"minimum=1,maximum=100,description=Replicas of each partition of a topic that is created; absent means the broker's default"`
	Retention         config.Duration   `json:"retention,omitempty" jsonschema:"description=How long the topic keeps records (168h); absent means the broker's default"`
	TopicConfig       map[string]string `json:"topicConfig,omitempty" jsonschema:"description=Further settings of the topic such as cleanup.policy"`
}

// SourceConfig is the configuration of a source of type kafka.
type SourceConfig struct {
	Topic  string   `json:"topic,omitempty" jsonschema:"pattern=^[a-zA-Z0-9._-]{1\\,249}$,description=The topic to read; or use topics"`
	Topics []string `json:"topics,omitempty" jsonschema:"maxItems=100,description=Several topics to read"`
	TopicSpec

	StartAt        string          `json:"startAt,omitempty" jsonschema:"enum=earliest,enum=latest,enum=timestamp,default=earliest,description=Where a consumer group without committed offsets starts"`
	StartTimestamp *time.Time      `json:"startTimestamp,omitempty" jsonschema:"description=For startAt timestamp: the first record to read has this time or a later one (RFC 3339)"`
	MaxWait        config.Duration `json:"maxWait,omitempty" jsonschema:"default=500ms,description=How long the broker waits for minBytes"`
	MinBytes       int             `json:"minBytes,omitempty" jsonschema:"minimum=1,maximum=104857600,default=1,description=The broker answers once it has this many bytes for a partition"`
	MaxBytes       int             `json:"maxBytes,omitempty" jsonschema:"minimum=1024,maximum=104857600,default=4194304,description=The largest fetch of one partition; a single larger record is still fetched"`
	SessionTimeout config.Duration `json:"sessionTimeout,omitempty" jsonschema:"default=10s,description=A worker that sends no heartbeat for this long loses its partitions to others"`
	Isolation      string          `json:"isolation,omitempty" jsonschema:"enum=readUncommitted,enum=readCommitted,default=readUncommitted,description=readCommitted waits for transactions to end"`
}

// SinkConfig is the configuration of a sink of type kafka.
type SinkConfig struct {
	Topic string `json:"topic" jsonschema:"required,pattern=^[a-zA-Z0-9._-]{1\\,249}$,description=The topic to write"`
	TopicSpec

	Key             string          `json:"key,omitempty" jsonschema:"description=The records' key: a field path (customer.id) or a CEL expression (this.customer.id); absent keeps each record's own key"`
	Partitioner     string          `json:"partitioner,omitempty" jsonschema:"enum=murmur2,enum=hash,enum=roundrobin,default=murmur2,description=murmur2 is what Java clients do; hash is FNV-1a; roundrobin ignores keys"`
	Acks            string          `json:"acks,omitempty" jsonschema:"enum=all,enum=one,default=all,description=Whose acknowledgement makes a record durable: all in-sync replicas or the leader alone"`
	Compression     string          `json:"compression,omitempty" jsonschema:"enum=none,enum=gzip,enum=snappy,enum=lz4,enum=zstd,default=lz4,description=Compression of the batches"`
	MaxMessageBytes int             `json:"maxMessageBytes,omitempty" jsonschema:"minimum=1024,maximum=268435456,default=1000000,description=The largest record to send; keep it below the topic's max.message.bytes"`
	Timeout         config.Duration `json:"timeout,omitempty" jsonschema:"default=10s,description=How long one produce request may take"`
}

// Source describes the source.
func Source() connector.Spec {
	return connector.SourceOf(connector.Spec{
		Type:    "kafka",
		Summary: "Reads topics as a member of a consumer group; offsets are committed when the sinks have acknowledged.",
		Binding: "kafka", Codec: "raw", Overlaps: true,
	}, openSource)
}

// Sink describes the sink.
func Sink() connector.Spec {
	return connector.SinkOf(connector.Spec{
		Type:    "kafka",
		Summary: "Writes to a topic, durably and in order per partition.",
		Binding: "kafka", Codec: "raw",
	}, openSink)
}

// all returns the topics to read, without duplicates.
func (c *SourceConfig) all() ([]string, error) {
	topics := slices.Clone(c.Topics)
	if c.Topic != "" {
		topics = append(topics, c.Topic)
	}
	if len(topics) == 0 {
		return nil, fmt.Errorf("config.topic: is required, or config.topics: %w", backend.ErrInvalid)
	}
	for _, topic := range topics {
		if err := validTopic(topic); err != nil {
			return nil, err
		}
	}
	slices.Sort(topics)
	return slices.Compact(topics), nil
}

// validTopic applies Kafka's rule for topic names.
func validTopic(name string) error {
	ok := len(name) >= 1 && len(name) <= 249 && name != "." && name != ".."
	for _, c := range []byte(name) {
		ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-')
	}
	if !ok {
		return fmt.Errorf("config.topic: %q is not a topic name (letters, digits, '.', '_', '-'; at most 249; not . or ..): %w", name, backend.ErrInvalid)
	}
	return nil
}

func orDefault[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}
