// SPDX-License-Identifier: Apache-2.0

package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connector"
	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
)

const (
	// requestBytes is the size of one produce request, before compression: below the broker's
	// default max.message.bytes (1048588) with what the format adds.
	requestBytes = 1_000_000
	// recordBytes is the most the format adds to one record without headers.
	recordBytes = 64
	// inParallel limits the partitions that are written at the same time.
	inParallel = 16
	// patience is how often a request is retried before Write fails.
	patience = 4
	// refresh is how soon new partitions are used.
	refresh = 30 * time.Second
)

// sink writes to one topic. Partitions are written in parallel, each in order: the next request of a partition
// waits for the acknowledgement of the previous one.
type sink struct {
	cfg     SinkConfig
	env     connector.Env
	cluster *cluster
	key     keyFunc
	choose  *partitioner
	acks    kafkago.RequiredAcks
	codec   kafkago.Compression

	counted    time.Time // when the partitions were counted
	unfinished *delivery // the last batch, when it failed
}

func openSink(ctx context.Context, cfg SinkConfig, env connector.Env) (connector.Sink, error) {
	if err := validTopic(cfg.Topic); err != nil {
		return nil, err
	}
	key, err := newKey(cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("config.key: %w: %w", err, backend.ErrInvalid)
	}
	s := &sink{cfg: cfg, env: env, key: key, acks: kafkago.RequireAll}
	if cfg.Acks == "one" {
		s.acks = kafkago.RequireOne
	}
	if name := orDefault(cfg.Compression, "lz4"); name != "none" {
		if err := s.codec.UnmarshalText([]byte(name)); err != nil {
			return nil, fmt.Errorf("config.compression: %w: %w", err, backend.ErrInvalid)
		}
	}
	s.cfg.MaxMessageBytes = orDefault(cfg.MaxMessageBytes, requestBytes)
	if s.cluster, err = connect(env.Binding, orDefault(time.Duration(cfg.Timeout), requestTimeout)); err != nil {
		return nil, err
	}
	s.choose = newPartitioner(cfg.Partitioner)
	if err := s.count(ctx); err != nil {
		s.cluster.close()
		return nil, err
	}
	return s, nil
}

// count looks up the number of partitions.
func (s *sink) count(ctx context.Context) error {
	counts, err := s.cluster.partitions(ctx, s.cfg.Topic)
	if err != nil {
		return err
	}
	s.choose.set(counts[s.cfg.Topic])
	s.counted = time.Now()
	return nil
}

// item is one message to write and its record.
type item struct {
	record  int
	key     []byte
	value   []byte
	headers []record.Header
	time    time.Time
}

func (i *item) size() int {
	n := len(i.key) + len(i.value) + recordBytes
	for _, h := range i.headers {
		n += len(h.Key) + len(h.Value) + 10
	}
	return n
}

// delivery is a batch in flight: what is left to send per partition, and what was refused so far.
type delivery struct {
	first   *record.Record // with length, identifies a batch that the engine retries
	length  int
	queues  [][]item
	mu      sync.Mutex
	refused record.Errors
}

// Write returns when every record is acknowledged or refused. After a failure it remembers what was
// acknowledged, so that a retry does not write it twice.
func (s *sink) Write(ctx context.Context, batch *record.Batch) error {
	if len(batch.Records) == 0 {
		return nil
	}
	if time.Since(s.counted) > refresh {
		if err := s.count(ctx); err != nil {
			return err
		}
	}
	w := s.unfinished
	if w == nil || w.first != &batch.Records[0] || w.length != len(batch.Records) {
		w = &delivery{first: &batch.Records[0], length: len(batch.Records)}
		w.queues = s.split(batch, &w.refused)
	}
	s.unfinished = nil
	if err := s.send(ctx, w); err != nil {
		s.counted = time.Time{} // partitions may have changed
		if !errors.Is(err, backend.ErrNotFound) {
			s.unfinished = w
		}
		return err
	}
	return w.refused.OrNil()
}

// send writes all partitions' queues and returns the first error.
func (s *sink) send(ctx context.Context, w *delivery) error {
	var (
		failed error
		wg     sync.WaitGroup
		slots  = make(chan struct{}, inParallel)
	)
	for id := range w.queues {
		if len(w.queues[id]) == 0 {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := s.writePartition(ctx, w, id); err != nil {
				w.mu.Lock()
				defer w.mu.Unlock()
				if failed == nil {
					failed = err
				}
			}
		})
	}
	wg.Wait()
	return failed
}

// split encodes the records and groups them by partition; those that cannot be written go to refused.
func (s *sink) split(batch *record.Batch, refused *record.Errors) [][]item {
	queues := make([][]item, s.choose.count)
	for n := range queues {
		queues[n] = make([]item, 0, len(batch.Records)/len(queues)+1)
	}
	for n := range batch.Records {
		it, err := s.encode(&batch.Records[n])
		if err != nil {
			refused.Add(n, err)
			continue
		}
		it.record = n
		id := s.choose.partitionOf(it.key)
		queues[id] = append(queues[id], it)
	}
	return queues
}

func (s *sink) encode(r *record.Record) (it item, err error) {
	it.headers, it.time = r.Headers, r.Time
	if it.key, err = s.key(r); err != nil {
		return it, fmt.Errorf("key: %w", err)
	}
	if s.env.Codec == nil || s.env.Codec.Passthrough() {
		it.value, err = r.Bytes()
	} else {
		it.value, err = s.env.Codec.Marshal(nil, r)
	}
	if err != nil {
		return it, err
	}
	if size := it.size(); size > s.cfg.MaxMessageBytes {
		return it, fmt.Errorf("message has %d bytes, more than maxMessageBytes %d: %w", size, s.cfg.MaxMessageBytes, backend.ErrInvalid)
	}
	return it, nil
}

// writePartition sends one request after another; what is sent leaves the queue.
func (s *sink) writePartition(ctx context.Context, w *delivery, id int) error {
	limit, attempts := requestBytes, 0 // one record may be larger than limit: it is then sent alone
	for len(w.queues[id]) > 0 {
		items := w.queues[id]
		n, size := 0, 0
		for n < len(items) && (n == 0 || size+items[n].size() <= limit) {
			size += items[n].size()
			n++
		}
		err := s.produce(ctx, id, items[:n])
		switch {
		case err == nil:
			w.queues[id], attempts = items[n:], 0
		case refusedForGood(err) && n == 1:
			w.mu.Lock()
			w.refused.Add(items[0].record, fmt.Errorf("%w: %w", backend.ErrInvalid, err))
			w.mu.Unlock()
			w.queues[id] = items[1:]
		case refusedForGood(err):
			limit = max(1, size/2) // the broker's limit is lower than ours, or one record is invalid
		case attempts < patience && ctx.Err() == nil:
			wait(ctx, 50*time.Millisecond<<attempts) // a leader that moves is found again soon
			attempts++
		default:
			return classify(fmt.Sprintf("write to %s/%d", s.cfg.Topic, id), err)
		}
	}
	return nil
}

// refusedForGood reports whether the error is about a request's content.
func refusedForGood(err error) bool {
	return errors.Is(err, kafkago.MessageSizeTooLarge) || errors.Is(err, kafkago.RecordListTooLarge) ||
		errors.Is(err, kafkago.InvalidRecord) || errors.Is(err, kafkago.InvalidTimestamp)
}

func (s *sink) produce(ctx context.Context, id int, items []item) error {
	answer, err := s.cluster.client.Produce(ctx, &kafkago.ProduceRequest{
		Topic: s.cfg.Topic, Partition: id, RequiredAcks: s.acks, Compression: s.codec,
		Records: &reader{items: items},
	})
	if err != nil {
		return err
	}
	return answer.Error
}

// reader passes items to kafka-go one by one; it is read again after a lost connection.
type reader struct {
	items   []item
	next    int
	record  protocol.Record
	headers []protocol.Header
}

func (r *reader) ReadRecord() (*protocol.Record, error) {
	if r.next == len(r.items) {
		r.next = 0
		return nil, io.EOF
	}
	it := &r.items[r.next]
	r.next++
	r.headers = r.headers[:0]
	for _, h := range it.headers {
		r.headers = append(r.headers, protocol.Header{Key: h.Key, Value: h.Value})
	}
	at := it.time
	if at.IsZero() {
		at = time.Now()
	}
	r.record = protocol.Record{Time: at, Key: asBytes(it.key), Value: asBytes(it.value), Headers: r.headers}
	return &r.record, nil
}

// asBytes preserves nil as Kafka's null.
func asBytes(data []byte) protocol.Bytes {
	if data == nil {
		return nil
	}
	return protocol.NewBytes(data)
}

// Close has nothing to flush.
func (s *sink) Close(context.Context) error {
	s.cluster.close()
	return nil
}
