// SPDX-License-Identifier: Apache-2.0

package backendtest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/kafka"
)

// Kafka runs the suite of kafka.Admin on a cluster of one broker. produce adds n records to a topic.
func Kafka(t *testing.T, open func(testing.TB) kafka.Admin, produce func(t testing.TB, topic string, n int)) {
	s := kafkaSuite{admin: open(t), produce: produce}
	t.Cleanup(func() { Must(t, s.admin.Close()) })
	for name, test := range map[string]func(*testing.T){
		"Ping": s.ping, "Lifecycle": s.lifecycle, "Missing": s.missing, "Invalid": s.invalid,
		"Update": s.update, "Topics": s.topics, "Lag": s.lag, "Reset": s.reset, "Concurrent": s.concurrent,
	} {
		t.Run(name, test)
	}
}

type kafkaSuite struct {
	admin   kafka.Admin
	produce func(t testing.TB, topic string, n int)
}

// create creates a topic and deletes it after the test.
func (s kafkaSuite) create(t *testing.T, topic kafka.Topic) kafka.Topic {
	t.Helper()
	if topic.Name == "" {
		topic.Name = Name("topic")
	}
	Must(t, s.admin.CreateTopic(Context(t), topic))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		if err := s.admin.DeleteTopic(ctx, topic.Name); err != nil && !errors.Is(err, backend.ErrNotFound) {
			t.Error(err)
		}
	})
	return topic
}

func (s kafkaSuite) ping(t *testing.T) {
	version, err := s.admin.Ping(Context(t))
	Must(t, err)
	if version == "" || version == "unknown" {
		t.Errorf("version %q, want the release", version)
	}
	Ended(t, func(ctx context.Context) error { _, err := s.admin.Ping(ctx); return err })
}

func (s kafkaSuite) lifecycle(t *testing.T) {
	ctx := Context(t)
	want := s.create(t, kafka.Topic{Partitions: 3, ReplicationFactor: 1, Config: map[string]string{"retention.ms": "60000"}})
	got, err := s.admin.Topic(ctx, want.Name)
	Must(t, err)
	if drift := want.Drift(got); len(drift) > 0 || got.ReplicationFactor != 1 || len(got.Config) != 1 {
		t.Errorf("got %+v, want %+v: %v", got, want, drift)
	}
	WantIs(t, s.admin.CreateTopic(ctx, want), backend.ErrExists)
	Must(t, s.admin.DeleteTopic(ctx, want.Name))
	_, err = s.admin.Topic(ctx, want.Name)
	WantIs(t, err, backend.ErrNotFound)
	WantIs(t, s.admin.DeleteTopic(ctx, want.Name), backend.ErrNotFound)
	Must(t, s.admin.CreateTopic(ctx, want)) // the name is available again
}

func (s kafkaSuite) missing(t *testing.T) {
	ctx, name := Context(t), Name("missing")
	for method, call := range map[string]func() error{
		"Topic":       func() error { _, err := s.admin.Topic(ctx, name); return err },
		"UpdateTopic": func() error { return s.admin.UpdateTopic(ctx, kafka.Topic{Name: name, Partitions: 2}) },
		"DeleteTopic": func() error { return s.admin.DeleteTopic(ctx, name) },
		"ResetConfig": func() error { return s.admin.ResetConfig(ctx, name, []string{"retention.ms"}) },
		"GroupLag":    func() error { _, err := s.admin.GroupLag(ctx, "group", name); return err },
		"ResetGroup":  func() error { return s.admin.ResetGroup(ctx, "group", name, kafka.Earliest) },
		// Reading must not have created it.
		"Topic again": func() error { _, err := s.admin.Topic(ctx, name); return err },
	} {
		if err := call(); !errors.Is(err, backend.ErrNotFound) {
			t.Errorf("%s: got %v, want ErrNotFound", method, err)
		}
	}
}

func (s kafkaSuite) invalid(t *testing.T) {
	ctx := Context(t)
	topic := s.create(t, kafka.Topic{Name: Name("a.b"), Partitions: 1})
	for name, call := range map[string]func() error{
		"name":        func() error { return s.admin.CreateTopic(ctx, kafka.Topic{Name: "a b", Partitions: 1}) },
		"empty name":  func() error { _, err := s.admin.Topic(ctx, ""); return err },
		"collision":   func() error { return s.admin.CreateTopic(ctx, kafka.Topic{Name: kafka.NormalizeTopic(topic.Name)}) },
		"partitions":  func() error { return s.admin.CreateTopic(ctx, kafka.Topic{Name: Name("n"), Partitions: -1}) },
		"replication": func() error { return s.admin.CreateTopic(ctx, kafka.Topic{Name: Name("n"), ReplicationFactor: 7}) },
		"config": func() error {
			return s.admin.CreateTopic(ctx, kafka.Topic{Name: Name("n"), Config: map[string]string{"no.such.config": "1"}})
		},
		"update config": func() error {
			return s.admin.UpdateTopic(ctx, kafka.Topic{Name: topic.Name, Config: map[string]string{"no.such.config": "1"}})
		},
		"group":    func() error { _, err := s.admin.GroupLag(ctx, "", topic.Name); return err },
		"position": func() error { return s.admin.ResetGroup(ctx, "group", topic.Name, -3) },
	} {
		if err := call(); !errors.Is(err, backend.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
}

func (s kafkaSuite) update(t *testing.T) {
	ctx := Context(t)
	topic := s.create(t, kafka.Topic{Partitions: 2, Config: map[string]string{"retention.ms": "60000"}})
	want := kafka.Topic{Name: topic.Name, Partitions: 5, Config: map[string]string{"cleanup.policy": "compact"}}
	Must(t, s.admin.UpdateTopic(ctx, want))
	got, err := s.admin.Topic(ctx, topic.Name)
	Must(t, err)
	if drift := want.Drift(got); len(drift) > 0 {
		t.Errorf("after the update: %v", drift)
	}
	if got.Config["retention.ms"] != "60000" {
		t.Errorf("retention.ms is %q, an update must keep what it does not name", got.Config["retention.ms"])
	}
	WantIs(t, s.admin.UpdateTopic(ctx, kafka.Topic{Name: topic.Name, Partitions: 4}), backend.ErrInvalid)
	Must(t, s.admin.UpdateTopic(ctx, kafka.Topic{Name: topic.Name, Config: map[string]string{"retention.ms": "1000"}}))
	Must(t, s.admin.ResetConfig(ctx, topic.Name, []string{"cleanup.policy", "max.message.bytes"}))
	got, err = s.admin.Topic(ctx, topic.Name)
	Must(t, err)
	if got.Partitions != 5 || got.Config["retention.ms"] != "1000" || len(got.Config) != 1 {
		t.Errorf("got %+v, want 5 partitions and only retention.ms=1000", got)
	}
}

func (s kafkaSuite) topics(t *testing.T) {
	ctx := Context(t)
	one, two := s.create(t, kafka.Topic{Partitions: 1}), s.create(t, kafka.Topic{Partitions: 2})
	got, err := s.admin.Topics(ctx, []string{one.Name, Name("missing"), two.Name})
	Must(t, err)
	if len(got) != 2 || got[one.Name].Partitions != 1 || got[two.Name].Partitions != 2 {
		t.Errorf("got %v", got)
	}
	if got, err = s.admin.Topics(ctx, nil); err != nil || len(got) != 0 {
		t.Errorf("no names returned %v, %v", got, err)
	}
	Ended(t, func(ctx context.Context) error { _, err := s.admin.Topics(ctx, []string{one.Name}); return err })
}

func (s kafkaSuite) wantLag(t *testing.T, group, topic string, want int64) {
	t.Helper()
	got, err := s.admin.GroupLag(Context(t), group, topic)
	Must(t, err)
	if got != want {
		t.Errorf("lag %d, want %d", got, want)
	}
}

func (s kafkaSuite) lag(t *testing.T) {
	topic, group := s.create(t, kafka.Topic{Partitions: 3}).Name, Name("group")
	s.wantLag(t, group, topic, 0)
	s.produce(t, topic, 10)
	s.wantLag(t, group, topic, 10)
	Must(t, s.admin.ResetGroup(Context(t), group, topic, kafka.Latest))
	s.wantLag(t, group, topic, 0)
	s.produce(t, topic, 4)
	s.wantLag(t, group, topic, 4)
}

func (s kafkaSuite) reset(t *testing.T) {
	ctx := Context(t)
	topic, group := s.create(t, kafka.Topic{Partitions: 2}).Name, Name("group")
	s.produce(t, topic, 6)
	Must(t, s.admin.ResetGroup(ctx, group, topic, kafka.Latest))
	s.wantLag(t, group, topic, 0)
	Must(t, s.admin.ResetGroup(ctx, group, topic, kafka.Earliest))
	s.wantLag(t, group, topic, 6)
	Must(t, s.admin.ResetGroup(ctx, group, topic, time.Now().Add(time.Hour).UnixMilli()))
	s.wantLag(t, group, topic, 0)
}

func (s kafkaSuite) concurrent(t *testing.T) {
	topic := s.create(t, kafka.Topic{Partitions: 1})
	ctx := Context(t)
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if _, err := s.admin.Topic(ctx, topic.Name); err != nil {
				t.Error(err)
			}
			err := s.admin.CreateTopic(ctx, topic)
			if !errors.Is(err, backend.ErrExists) {
				t.Errorf("got %v, want ErrExists", err)
			}
		})
	}
	group.Wait()
}
