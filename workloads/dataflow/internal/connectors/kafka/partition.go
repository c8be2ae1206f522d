// SPDX-License-Identifier: Apache-2.0

package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
)

// partition is one partition that this member owns, across as many generations of the group as it keeps it.
type partition struct {
	s        *source
	topic    string
	id       int
	maxBytes int
	next     int64 // the offset to fetch from; negative: nothing is committed

	mu         sync.Mutex
	generation *kafkago.Generation // nil between generations
	taken      int64               // the offset after the last record that Read returned
	committed  int64               // the offset at the broker, as far as known; negative: unknown
	wanted     int64               // the offset that Ack asked for; committed with the next generation once this one is over
	epoch      int                 // counts how often the log was replaced by another; Acks of an older one are void
	lost       bool                // another member owns it
}

func newPartition(s *source, generation *kafkago.Generation, topic string, id int, offset int64) *partition {
	return &partition{s: s, generation: generation, topic: topic, id: id, next: offset, taken: offset, committed: offset, wanted: offset}
}

// keep carries the partition over into a new generation, if the broker's offset (negative: none) shows that no
// other member went past what is in flight here. Then nothing is read twice.
func (p *partition) keep(generation *kafkago.Generation, offset int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.lost || p.committed < 0:
		return false
	case offset >= 0 && (offset < p.committed || offset > p.taken):
		return false
	case offset >= 0:
		p.committed = offset
	}
	p.generation, p.next = generation, p.taken
	return true
}

func (p *partition) lose() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.generation, p.lost = nil, true
}

func (p *partition) position() int64 { p.mu.Lock(); defer p.mu.Unlock(); return p.committed }

// acked records that everything before the position is written. It returns the generation to commit in, nil if
// there is none now or nothing new.
func (p *partition) acked(at place) (*kafkago.Generation, int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lost || at.epoch != p.epoch {
		return nil, 0
	}
	p.wanted = max(p.wanted, at.next)
	if p.wanted <= p.committed {
		return nil, 0
	}
	return p.generation, p.wanted
}

func (p *partition) commits(offset int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.committed = max(p.committed, offset)
}

// run fetches until the generation ends, then waits a while for what is in flight, so that the next owner reads
// no record twice. When run returns, the group continues with the next generation.
func (p *partition) run(ctx context.Context) {
	for attempt := 0; ctx.Err() == nil; attempt++ {
		progress, err := p.session(ctx)
		if ctx.Err() != nil {
			break
		}
		if progress {
			attempt = 0
		}
		p.s.report(fmt.Errorf("partition %s/%d: %w", p.topic, p.id, err))
		wait(ctx, min(5*time.Second, 100*time.Millisecond<<min(attempt, 10)))
	}
	p.settle()
	p.mu.Lock()
	p.generation = nil
	p.mu.Unlock()
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// settle waits until everything that Read returned is acknowledged, for a limited time, and not at all if the
// broker is unreachable.
func (p *partition) settle() {
	timer, ticker := time.NewTimer(letGo), time.NewTicker(10*time.Millisecond)
	defer timer.Stop()
	defer ticker.Stop()
	for {
		p.mu.Lock()
		settled := p.committed >= p.taken || p.committed < 0
		p.mu.Unlock()
		if settled || p.s.unreachable.Load() {
			return
		}
		select {
		case <-ticker.C:
		case <-p.s.ctx.Done():
			return
		case <-timer.C:
			p.s.log.Warn("partition is released before all of it was acknowledged", "topic", p.topic, "partition", p.id)
			return
		}
	}
}

// session returns one connection to the partition's leader.
func (p *partition) session(ctx context.Context) (progress bool, err error) {
	// The generation's context cannot carry a deadline of its own; it ends with the generation.
	dialing, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	conn, err := p.s.cluster.leader(dialing, p.topic, p.id)
	if err != nil {
		return false, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // wakes a waiting fetch
	defer func() {
		if stop() {
			_ = conn.Close()
		}
	}()
	if p.next < 0 {
		if err := p.locate(ctx, conn); err != nil {
			return false, err
		}
	}
	if err := p.s.flush(p); err != nil { // what was acknowledged between two generations
		return false, err
	}
	p.s.recovered()
	for {
		got, err := p.fetch(ctx, conn)
		progress = progress || got
		if errors.Is(err, kafkago.OffsetOutOfRange) {
			err = p.relocate(conn)
		}
		if err != nil {
			return progress, classify("fetch", err)
		}
	}
}

// fetch requests records once and passes them on. A connection that was closed because the generation ended
// returns an error that is ignored.
func (p *partition) fetch(ctx context.Context, conn *kafkago.Conn) (got bool, err error) {
	maxWait := orDefault(time.Duration(p.s.cfg.MaxWait), 500*time.Millisecond)
	if _, err := conn.Seek(p.next, kafkago.SeekAbsolute|kafkago.SeekDontCheck); err != nil {
		return false, err
	}
	if err := conn.SetReadDeadline(time.Now().Add(maxWait + requestTimeout)); err != nil {
		return false, err
	}
	isolation := kafkago.ReadUncommitted
	if p.s.cfg.Isolation == "readCommitted" {
		isolation = kafkago.ReadCommitted
	}
	fetched := conn.ReadBatchWith(kafkago.ReadBatchConfig{
		MinBytes: min(orDefault(p.s.cfg.MinBytes, 1), p.maxBytes), MaxBytes: p.maxBytes,
		MaxWait: maxWait, IsolationLevel: isolation,
	})
	for {
		batch, err := p.collect(fetched)
		if len(batch.Records)+len(batch.Failed) > 0 {
			got = true
			if !p.deliver(ctx, batch) {
				_ = fetched.Close()
				return got, ctx.Err()
			}
			// The reader may be slow to read the next batch; the rest of the response is already on its way.
			_ = conn.SetReadDeadline(time.Now().Add(maxWait + requestTimeout))
		}
		if err != nil {
			// The end of the response may be beyond its last record: a compacted log has gaps.
			p.next = max(p.next, fetched.Offset())
			closeErr := fetched.Close()
			switch {
			case errors.Is(err, io.EOF):
				err = closeErr
			case errors.Is(err, kafkago.RequestTimedOut):
				err = nil // kafka-go returns it for an empty response, and for one that took long to read
			}
			return got, err
		}
	}
}

// collect reads records from a fetch until a batch is full or the response ends (io.EOF).
func (p *partition) collect(fetched *kafkago.Batch) (*record.Batch, error) {
	b := &record.Batch{}
	maxCount, maxBytes := max(1, p.s.env.Batching.Count), max(1, p.s.env.Batching.Bytes)
	var origins []byte
	ends := make([]int, 0, 64)
	size, first := int64(0), p.next
	var failure error
	for len(ends) < maxCount && size < maxBytes {
		message, err := fetched.ReadMessage()
		if err != nil {
			failure = err
			break
		}
		if message.Offset < first { // a batch of the log may begin before the requested offset
			continue
		}
		size += int64(len(message.Key) + len(message.Value))
		origins = append(origins, p.topic...)
		origins = append(origins, '/')
		origins = strconv.AppendInt(origins, int64(p.id), 10)
		origins = append(origins, '@')
		origins = strconv.AppendInt(origins, message.Offset, 10)
		ends = append(ends, len(origins))
		p.add(b, &message)
		p.next = message.Offset + 1
	}
	p.name(b, string(origins), ends)
	b.Position = place{partition: p, next: p.next, epoch: p.epoch}
	return b, failure
}

// add decodes a message into records. Until name runs, the length of Origin is the message's number.
func (p *partition) add(b *record.Batch, message *kafkago.Message) {
	r := record.New(message.Value)
	r.Key, r.Time = message.Key, message.Time
	if len(message.Headers) > 0 {
		r.Headers = make([]record.Header, len(message.Headers))
		for i, h := range message.Headers {
			r.Headers[i] = record.Header{Key: h.Key, Value: h.Value}
		}
	}
	if p.s.env.Codec == nil || p.s.env.Codec.Passthrough() {
		b.Records = append(b.Records, r)
		return
	}
	r.Origin = p.topic + "/" + strconv.Itoa(p.id) + "@" + strconv.FormatInt(message.Offset, 10)
	records, err := p.s.env.Codec.Unmarshal(message.Value)
	if err != nil {
		b.Failed = append(b.Failed, record.Failed{Record: r, Err: err})
		return
	}
	for i := range records {
		records[i].Key, records[i].Headers, records[i].Time, records[i].Origin = r.Key, r.Headers, r.Time, r.Origin
	}
	b.Records = append(b.Records, records...)
}

// name sets the origins, cut from one string, of a batch that needed no decoding.
func (p *partition) name(b *record.Batch, origins string, ends []int) {
	if len(b.Records) != len(ends) || len(ends) == 0 || b.Records[0].Origin != "" {
		return
	}
	start := 0
	for i, end := range ends {
		b.Records[i].Origin = origins[start:end]
		start = end
	}
}

// deliver passes a batch to Read; it returns false if the generation ended first.
func (p *partition) deliver(ctx context.Context, batch *record.Batch) bool {
	at := batch.Position.(place).next
	p.mu.Lock()
	before := p.taken
	p.taken = at // before it is read: settle must not miss it
	p.mu.Unlock()
	select {
	case p.s.out <- batch:
		return true
	case <-ctx.Done():
		p.mu.Lock()
		p.taken = before
		p.mu.Unlock()
		return false
	}
}
