// SPDX-License-Identifier: Apache-2.0

package triggers

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/itechsmart/operator/internal/backend"
	backendkafka "github.com/itechsmart/operator/internal/backend/kafka"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

const (
	kafkaCheck   = 10 * time.Second
	kafkaTimeout = 15 * time.Second
	// fetchBytes is more than the largest message that a trigger accepts.
	fetchBytes = definition.MaxPayload + 1<<20
)

// kafka consumes a topic as a member of the trigger's consumer group. It handles messages concurrently, and commits their offsets
// in order when their runs are durable. A message that cannot start a run is counted and skipped: Kafka has no dead-letter queues.
func (t *Triggers) kafka(ctx context.Context, s source, good func()) error {
	if err := pin(ctx, s); err != nil {
		return err
	}
	dialer, err := backendkafka.Dialer(s.binding)
	if err != nil {
		return err
	}
	var lastError atomic.Value // logged by the reader
	reader := kafkago.NewReader(kafkago.ReaderConfig{
		Brokers: s.binding.Brokers(), GroupID: s.group, Topic: s.name, Dialer: dialer, MaxBytes: fetchBytes, MaxWait: 500 * time.Millisecond,
		QueueCapacity: s.inHand(), StartOffset: kafkago.FirstOffset, // for partitions added after pin
		WatchPartitionChanges: true, JoinGroupBackoff: time.Second,
		ErrorLogger: kafkago.LoggerFunc(func(format string, args ...any) { lastError.Store(s.binding.Redact(fmt.Sprintf(format, args...))) }),
	})
	defer reader.Close() //nolint:errcheck // closing writes nothing
	good()
	working, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	inHand := make(chan *message, s.inHand())
	var group sync.WaitGroup
	defer group.Wait()
	defer stop(nil)
	group.Go(func() { stop(commit(working, reader, inHand)) })
	group.Go(func() { stop(t.checkTopic(working, s)) })
	for {
		fetched, err := reader.FetchMessage(working)
		if err != nil {
			if cause := context.Cause(working); cause != nil {
				err = cause
			}
			if logged, ok := lastError.Load().(string); ok {
				err = fmt.Errorf("%w (%s)", err, logged)
			}
			return s.binding.Error("topic "+s.name, nil, err)
		}
		m := &message{Message: fetched, done: make(chan struct{})}
		select {
		case inHand <- m:
		case <-working.Done():
			continue // the next fetch returns the cause
		}
		group.Go(func() { t.record(working, s, m) })
	}
}

// pin sets the offsets of a new group to the end of the topic: messages from before the trigger start no runs.
func pin(ctx context.Context, s source) error {
	ctx, cancel := context.WithTimeout(ctx, kafkaTimeout)
	defer cancel()
	admin, err := backendkafka.New(s.binding)
	if err != nil {
		return err
	}
	defer admin.Close() //nolint:errcheck // it only reads
	topic, err := admin.Topic(ctx, s.name)
	if err != nil {
		return err
	}
	transport, err := backendkafka.Transport(s.binding)
	if err != nil {
		return err
	}
	defer transport.CloseIdleConnections()
	client := &kafkago.Client{Addr: backendkafka.Addr(s.binding), Transport: transport}
	partitions := make([]int, topic.Partitions)
	for i := range partitions {
		partitions[i] = i
	}
	offsets, err := client.OffsetFetch(ctx, &kafkago.OffsetFetchRequest{GroupID: s.group, Topics: map[string][]int{s.name: partitions}})
	if err == nil {
		err = offsets.Error
	}
	if err != nil {
		return s.binding.Error("consumer group "+s.group, nil, err)
	}
	for _, p := range offsets.Topics[s.name] {
		if p.CommittedOffset >= 0 {
			return nil
		}
	}
	err = admin.ResetGroup(ctx, s.group, s.name, backendkafka.Latest)
	if errors.Is(err, backend.ErrInvalid) { // the group has members: another replica was faster
		return nil
	}
	return err
}

// checkTopic returns an error when the topic is deleted or the brokers are down: the reader would retry forever without an error.
func (t *Triggers) checkTopic(ctx context.Context, s source) error {
	admin, err := backendkafka.New(s.binding)
	if err != nil {
		return err
	}
	defer admin.Close() //nolint:errcheck // it only reads
	for sleep(ctx, kafkaCheck) {
		call, cancel := context.WithTimeout(ctx, kafkaTimeout)
		_, err := admin.Topic(call, s.name)
		cancel()
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// message is a message in progress.
type message struct {
	kafkago.Message
	done chan struct{} // closed when its run is durable
}

// commit commits messages in order.
func commit(ctx context.Context, reader *kafkago.Reader, inHand <-chan *message) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m := <-inHand:
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-m.done:
			}
			if err := reader.CommitMessages(ctx, m.Message); err != nil {
				return err
			}
		}
	}
}

// record starts the run of m and closes m.done. If ctx is done first, the message will be read again.
func (t *Triggers) record(ctx context.Context, s source, m *message) {
	headers := map[string]string{"topic": m.Topic, "partition": strconv.Itoa(m.Partition), "offset": strconv.FormatInt(m.Offset, 10)}
	contentType := ""
	for _, h := range m.Headers {
		headers[h.Key] = strings.ToValidUTF8(string(h.Value), "\uFFFD")
		if strings.EqualFold(h.Key, "content-type") {
			contentType = headers[h.Key]
		}
	}
	if len(m.Key) > 0 {
		headers["key"] = strings.ToValidUTF8(string(m.Key), "\uFFFD")
	}
	body, err := payload(m.Value, contentType)
	if err != nil || int64(len(m.Value)) > s.maxPayload {
		t.options.Launcher.Reject(s.workflow, s.trigger)
		close(m.done)
		return
	}
	c := event{body: body, headers: headers, key: fmt.Sprintf("%s/%d/%d", m.Topic, m.Partition, m.Offset)}
	if _, err := t.fire(ctx, s.id, c); err == nil {
		close(m.done)
	}
}
