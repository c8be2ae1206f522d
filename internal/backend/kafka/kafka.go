// SPDX-License-Identifier: Apache-2.0

// Package kafka administers Apache Kafka: topics, their configuration and the lag of consumer groups. It also
// builds the transport and the dialer of connectors.
package kafka

import (
	"context"
	"fmt"
	"strings"

	"github.com/itechsmart/operator/internal/backend"
)

// Topic is a desired or an existing topic.
type Topic struct {
	Name string
	// Partitions: 0 means the broker's default and, in UpdateTopic, no change.
	Partitions int32
	// ReplicationFactor: 0 means the broker's default. It is set on creation and never changed.
	ReplicationFactor int16
	// Config holds topic settings such as retention.ms. An existing topic has only those that are set on the
	// topic itself.
	Config map[string]string
}

// Positions for ResetGroup besides a Unix time in milliseconds.
const (
	Latest   int64 = -1
	Earliest int64 = -2
)

// Admin administers one cluster. Every method honours the context's deadline and wraps a sentinel of package
// backend; each may return ErrUnavailable and ErrAuth.
type Admin interface {
	// Ping returns a broker's version, such as "4.1"; "unknown" for brokers before 3.3, which do not report it.
	Ping(ctx context.Context) (version string, err error)
	// Topic reads one topic; ErrNotFound. It never creates one.
	Topic(ctx context.Context, name string) (Topic, error)
	// Topics reads the existing ones of the topics, in two requests.
	Topics(ctx context.Context, names []string) (map[string]Topic, error)
	// CreateTopic returns once the topic can be read; ErrExists, ErrInvalid.
	CreateTopic(ctx context.Context, topic Topic) error
	// UpdateTopic adds partitions and sets the configuration; other settings stay. ErrNotFound; ErrInvalid if
	// partitions would shrink.
	UpdateTopic(ctx context.Context, topic Topic) error
	// ResetConfig resets settings of a topic to the broker's default; ErrNotFound.
	ResetConfig(ctx context.Context, topic string, keys []string) error
	// DeleteTopic returns once the topic is gone; ErrNotFound.
	DeleteTopic(ctx context.Context, name string) error
	// GroupLag returns the number of records of a topic that a consumer group has not committed; all of the
	// topic's if it never committed. ErrNotFound if the topic does not exist.
	GroupLag(ctx context.Context, group, topic string) (int64, error)
	// ResetGroup commits new offsets for a group on a topic: Earliest, Latest or the first record at or after a
	// Unix time in milliseconds. ErrInvalid while the group has members; ErrNotFound if the topic does not
	// exist.
	ResetGroup(ctx context.Context, group, topic string, to int64) error
	// Close releases the connections.
	Close() error
}

const maxTopicName = 249

// ValidTopic refuses names of topics that a broker would refuse; ErrInvalid.
func ValidTopic(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("topic name is empty: %w", backend.ErrInvalid)
	case name == "." || name == "..":
		return fmt.Errorf("topic name %q is reserved: %w", name, backend.ErrInvalid)
	case len(name) > maxTopicName:
		return fmt.Errorf("topic name has %d characters, at most %d are allowed: %w", len(name), maxTopicName, backend.ErrInvalid)
	}
	for _, c := range name {
		if !legal(c) {
			return fmt.Errorf("topic name %q contains %q; allowed are letters, digits, '.', '_' and '-': %w", name, c, backend.ErrInvalid)
		}
	}
	return nil
}

func legal(c rune) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
}

// NormalizeTopic returns a topic's name in a broker's metrics: '.' and '_' are the same there, and a broker
// refuses a second topic with the same normalized name.
func NormalizeTopic(name string) string { return strings.ReplaceAll(name, ".", "_") }

// validate checks what can be checked without a broker.
func (t Topic) validate() error {
	if err := ValidTopic(t.Name); err != nil {
		return err
	}
	if t.Partitions < 0 {
		return fmt.Errorf("topic %s: partitions %d is negative: %w", t.Name, t.Partitions, backend.ErrInvalid)
	}
	if t.ReplicationFactor < 0 {
		return fmt.Errorf("topic %s: replication factor %d is negative: %w", t.Name, t.ReplicationFactor, backend.ErrInvalid)
	}
	for key := range t.Config {
		if key == "" {
			return fmt.Errorf("topic %s: a configuration key is empty: %w", t.Name, backend.ErrInvalid)
		}
	}
	return nil
}

// Drift lists what UpdateTopic would change to turn got into t.
func (t Topic) Drift(got Topic) []string {
	var drift []string
	if t.Partitions > 0 && t.Partitions != got.Partitions {
		drift = append(drift, fmt.Sprintf("partitions: want %d, is %d", t.Partitions, got.Partitions))
	}
	for key, want := range t.Config {
		if is, ok := got.Config[key]; !ok || is != want {
			drift = append(drift, fmt.Sprintf("config %s: want %q, is %q", key, want, is))
		}
	}
	return drift
}
