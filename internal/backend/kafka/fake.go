// SPDX-License-Identifier: Apache-2.0

package kafka

import (
	"context"
	"fmt"
	"maps"
	"sync"

	"github.com/itechsmart/operator/internal/backend"
)

// Fake is an in-memory cluster. It embeds backend.Faults: Fail makes a method fail, Calls counts. Safe for
// concurrent use.
type Fake struct {
	backend.Faults

	// Version is returned by Ping.
	Version string

	mu     sync.Mutex
	topics map[string]Topic
	ends   map[string]int64            // records by topic
	groups map[string]map[string]int64 // committed records by group and topic
}

var _ Admin = (*Fake)(nil)

// NewFake returns an empty cluster of one broker.
func NewFake() *Fake {
	return &Fake{
		Version: "4.3", topics: map[string]Topic{},
		ends: map[string]int64{}, groups: map[string]map[string]int64{},
	}
}

// Produce adds n records to a topic.
func (f *Fake) Produce(topic string, n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ends[topic] += n
}

// Commit records that a group has consumed n records of a topic.
func (f *Fake) Commit(group, topic string, n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.commit(group, topic, n)
}

func (f *Fake) commit(group, topic string, n int64) {
	if f.groups[group] == nil {
		f.groups[group] = map[string]int64{}
	}
	f.groups[group][topic] = n
}

// Ping implements Admin.
func (f *Fake) Ping(ctx context.Context) (string, error) {
	if err := f.Enter(ctx, "Ping"); err != nil {
		return "", err
	}
	return f.Version, nil
}

// Topic implements Admin.
func (f *Fake) Topic(ctx context.Context, name string) (Topic, error) {
	if err := f.Enter(ctx, "Topic"); err != nil {
		return Topic{}, err
	}
	if err := ValidTopic(name); err != nil {
		return Topic{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.get(name)
}

func (f *Fake) get(name string) (Topic, error) {
	topic, ok := f.topics[name]
	if !ok {
		return Topic{}, fmt.Errorf("kafka: topic %s: %w", name, backend.ErrNotFound)
	}
	topic.Config = maps.Clone(topic.Config)
	return topic, nil
}

// Topics implements Admin.
func (f *Fake) Topics(ctx context.Context, names []string) (map[string]Topic, error) {
	if err := f.Enter(ctx, "Topics"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[string]Topic{}
	for _, name := range names {
		if topic, err := f.get(name); err == nil {
			out[name] = topic
		}
	}
	return out, nil
}

// CreateTopic implements Admin.
func (f *Fake) CreateTopic(ctx context.Context, topic Topic) error {
	if err := f.Enter(ctx, "CreateTopic"); err != nil {
		return err
	}
	if err := topic.validate(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for name := range f.topics {
		switch {
		case name == topic.Name:
			return fmt.Errorf("kafka: create topic %s: %w", name, backend.ErrExists)
		case NormalizeTopic(name) == NormalizeTopic(topic.Name):
			return fmt.Errorf("kafka: create topic %s: it collides with %s: %w", topic.Name, name, backend.ErrInvalid)
		}
	}
	if topic.ReplicationFactor > 1 {
		return fmt.Errorf("kafka: create topic %s: replication factor %d, one broker: %w", topic.Name, topic.ReplicationFactor, backend.ErrInvalid)
	}
	if err := knownConfig(topic); err != nil {
		return err
	}
	topic.Partitions = max(1, topic.Partitions)
	topic.ReplicationFactor = 1
	topic.Config = maps.Clone(topic.Config)
	if topic.Config == nil {
		topic.Config = map[string]string{}
	}
	f.topics[topic.Name] = topic
	return nil
}

// UpdateTopic implements Admin.
func (f *Fake) UpdateTopic(ctx context.Context, topic Topic) error {
	if err := f.Enter(ctx, "UpdateTopic"); err != nil {
		return err
	}
	if err := topic.validate(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	got, err := f.get(topic.Name)
	if err != nil {
		return err
	}
	if topic.Partitions > 0 && topic.Partitions < got.Partitions {
		return fmt.Errorf("kafka: update topic %s: %w: it has %d partitions and cannot shrink to %d",
			topic.Name, backend.ErrInvalid, got.Partitions, topic.Partitions)
	}
	if err := knownConfig(topic); err != nil {
		return err
	}
	got.Partitions = max(got.Partitions, topic.Partitions)
	maps.Copy(got.Config, topic.Config)
	f.topics[topic.Name] = got
	return nil
}

// ResetConfig implements Admin.
func (f *Fake) ResetConfig(ctx context.Context, topic string, keys []string) error {
	if err := f.Enter(ctx, "ResetConfig"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	got, err := f.get(topic)
	if err != nil {
		return err
	}
	for _, key := range keys {
		delete(got.Config, key)
	}
	f.topics[topic] = got
	return nil
}

// DeleteTopic implements Admin.
func (f *Fake) DeleteTopic(ctx context.Context, name string) error {
	if err := f.Enter(ctx, "DeleteTopic"); err != nil {
		return err
	}
	if err := ValidTopic(name); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.get(name); err != nil {
		return err
	}
	delete(f.topics, name)
	delete(f.ends, name)
	return nil
}

// GroupLag implements Admin.
func (f *Fake) GroupLag(ctx context.Context, group, topic string) (int64, error) {
	if err := f.Enter(ctx, "GroupLag"); err != nil {
		return 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.consumes(group, topic); err != nil {
		return 0, err
	}
	return max(0, f.ends[topic]-f.groups[group][topic]), nil
}

// ResetGroup implements Admin. A time counts as Latest.
func (f *Fake) ResetGroup(ctx context.Context, group, topic string, to int64) error {
	if err := f.Enter(ctx, "ResetGroup"); err != nil {
		return err
	}
	if to < Earliest {
		return fmt.Errorf("kafka: reset group %s: position %d: %w", group, to, backend.ErrInvalid)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.consumes(group, topic); err != nil {
		return err
	}
	if to == Earliest {
		f.commit(group, topic, 0)
		return nil
	}
	f.commit(group, topic, f.ends[topic])
	return nil
}

func (f *Fake) consumes(group, topic string) error {
	if group == "" {
		return fmt.Errorf("group is empty: %w", backend.ErrInvalid)
	}
	if err := ValidTopic(topic); err != nil {
		return err
	}
	_, err := f.get(topic)
	return err
}

// Close implements Admin.
func (f *Fake) Close() error { return f.Enter(context.Background(), "Close") }

// knownConfig refuses settings that a broker would not know, judging only by name.
func knownConfig(topic Topic) error {
	for key := range topic.Config {
		if !topicConfigs[key] {
			return fmt.Errorf("kafka: topic %s: unknown config %q: %w", topic.Name, key, backend.ErrInvalid)
		}
	}
	return nil
}

var topicConfigs = func() map[string]bool {
	known := map[string]bool{}
	for _, key := range []string{
		"cleanup.policy", "compression.gzip.level", "compression.lz4.level", "compression.type",
		"compression.zstd.level", "delete.retention.ms", "file.delete.delay.ms", "flush.messages", "flush.ms",
		"follower.replication.throttled.replicas", "index.interval.bytes", "leader.replication.throttled.replicas",
		"local.retention.bytes", "local.retention.ms", "max.compaction.lag.ms", "max.message.bytes",
		"message.timestamp.after.max.ms", "message.timestamp.before.max.ms", "message.timestamp.type",
		"min.cleanable.dirty.ratio", "min.compaction.lag.ms", "min.insync.replicas", "preallocate",
		"remote.log.copy.disable", "remote.log.delete.on.disable", "remote.storage.enable", "retention.bytes",
		"retention.ms", "segment.bytes", "segment.index.bytes", "segment.jitter.ms", "segment.ms",
		"unclean.leader.election.enable",
	} {
		known[key] = true
	}
	return known
}()
