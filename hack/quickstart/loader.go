// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"golang.org/x/sync/errgroup"
)

const (
	batchRecords = 4000
	batchBytes   = 512 << 10
	retryPause   = time.Second
	patience     = 5 * time.Minute // with a broker that does not respond
)

// loader writes record n to partition n modulo the partitions, in order. So a partition's end offset is the number of its
// records, and a restarted loader, or one whose request got no response, resumes exactly there.
type loader struct {
	client     *kafkago.Client
	topic      string
	partitions int
	out        io.Writer
	written    atomic.Int64 // by this process
}

func newLoader(transport kafkago.RoundTripper, addr net.Addr, topic string, out io.Writer) *loader {
	return &loader{client: &kafkago.Client{Addr: addr, Transport: transport, Timeout: 30 * time.Second}, topic: topic, out: out}
}

// awaitTopic waits until the topic exists.
func (l *loader) awaitTopic(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := l.findTopic(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("topic %q: %w", l.topic, errors.Join(err, context.Cause(ctx)))
		case <-time.After(retryPause):
		}
	}
}

func (l *loader) findTopic(ctx context.Context) error {
	response, err := l.client.Metadata(ctx, &kafkago.MetadataRequest{Topics: []string{l.topic}})
	if err != nil {
		return err
	}
	for _, topic := range response.Topics {
		if topic.Name == l.topic && topic.Error == nil && len(topic.Partitions) > 0 {
			l.partitions = len(topic.Partitions)
			return nil
		}
	}
	return kafkago.UnknownTopicOrPartition
}

// end returns a partition's end offset: how many records were ever written to it.
func (l *loader) end(ctx context.Context, partition int) (int64, error) {
	response, err := l.client.ListOffsets(ctx, &kafkago.ListOffsetsRequest{
		Topics: map[string][]kafkago.OffsetRequest{l.topic: {kafkago.LastOffsetOf(partition)}},
	})
	if err != nil {
		return 0, err
	}
	for _, found := range response.Topics[l.topic] {
		if found.Partition == partition {
			return found.LastOffset, found.Error
		}
	}
	return 0, fmt.Errorf("no offset of partition %d in the broker's response", partition)
}

// run loads all records, or the first limit of them.
func (l *loader) run(ctx context.Context, source flights, limit int64) error {
	started := time.Now()
	ends := make([]int64, l.partitions)
	var there int64
	for p := range ends {
		end, err := l.end(ctx, p)
		if err != nil {
			return fmt.Errorf("topic %q: %w", l.topic, err)
		}
		ends[p] = end
		there += end
	}
	total := source.Total()
	if limit > 0 && (total == 0 || limit < total) {
		total = limit
	}
	fmt.Fprintf(l.out, "topic %s: %d partitions, %d records\n", l.topic, l.partitions, there)
	group, ctx := errgroup.WithContext(ctx)
	queues := make([]chan [][]byte, l.partitions)
	for p := range queues {
		queues[p] = make(chan [][]byte, 2)
		group.Go(func() error { return l.write(ctx, p, ends[p], queues[p]) })
	}
	group.Go(func() error { return l.deal(ctx, source, limit, ends, queues) })
	done := make(chan struct{})
	reported := make(chan struct{})
	go func() { defer close(reported); l.report(done, started, there, total) }()
	err := group.Wait()
	close(done)
	<-reported
	if err != nil {
		return err
	}
	took := time.Since(started)
	fmt.Fprintf(l.out, "loaded %d records in %s, %.0f/s; the topic has %d\n",
		l.written.Load(), took.Round(time.Millisecond), float64(l.written.Load())/took.Seconds(), there+l.written.Load())
	return nil
}

// deal distributes the records to their partitions, without those already written.
func (l *loader) deal(ctx context.Context, source flights, limit int64, ends []int64, queues []chan [][]byte) error {
	batches, sizes := make([][][]byte, l.partitions), make([]int, l.partitions)
	defer func() {
		for _, queue := range queues {
			close(queue)
		}
	}()
	send := func(p int) error {
		select {
		case queues[p] <- batches[p]:
			batches[p], sizes[p] = nil, 0
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for id := int64(0); limit == 0 || id < limit; id++ {
		record, err := source.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		p := int(id % int64(l.partitions))
		if id/int64(l.partitions) < ends[p] {
			continue
		}
		batches[p] = append(batches[p], record)
		sizes[p] += len(record)
		if len(batches[p]) >= batchRecords || sizes[p] >= batchBytes {
			if err := send(p); err != nil {
				return err
			}
		}
	}
	for p := range queues {
		if len(batches[p]) > 0 {
			if err := send(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// write appends batches to a partition that ends at offset end.
func (l *loader) write(ctx context.Context, partition int, end int64, queue <-chan [][]byte) error {
	for batch := range queue {
		goal := end + int64(len(batch))
		failing := time.Time{}
		for end < goal {
			rest := batch[int64(len(batch))-(goal-end):]
			err := l.produce(ctx, partition, rest)
			if err == nil {
				end = goal
				break
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if failing.IsZero() {
				failing = time.Now()
				fmt.Fprintf(l.out, "partition %d: %v; retrying\n", partition, err)
			}
			if time.Since(failing) > patience {
				return fmt.Errorf("partition %d: %w", partition, err)
			}
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(retryPause):
			}
			// The request may have succeeded although its response was lost.
			if now, err := l.end(ctx, partition); err == nil {
				end = now
			}
		}
		if end > goal {
			return fmt.Errorf("partition %d ends at %d instead of %d: another client writes to topic %q", partition, end, goal, l.topic)
		}
		l.written.Add(int64(len(batch)))
	}
	return nil
}

func (l *loader) produce(ctx context.Context, partition int, values [][]byte) error {
	records := make([]kafkago.Record, len(values))
	now := time.Now()
	for i, value := range values {
		records[i] = kafkago.Record{Time: now, Value: kafkago.NewBytes(value)}
	}
	response, err := l.client.Produce(ctx, &kafkago.ProduceRequest{
		Topic: l.topic, Partition: partition, RequiredAcks: kafkago.RequireAll,
		Compression: kafkago.Lz4, Records: kafkago.NewRecordReader(records...),
	})
	if err != nil {
		return err
	}
	return response.Error
}

// report prints the progress every two seconds.
func (l *loader) report(done <-chan struct{}, started time.Time, there, total int64) {
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		written := l.written.Load()
		of := ""
		if total > 0 {
			of = fmt.Sprintf(" of %d (%d%%)", total, 100*(there+written)/total)
		}
		fmt.Fprintf(l.out, "%d%s, %.0f/s\n", there+written, of, float64(written)/time.Since(started).Seconds())
	}
}
