// SPDX-License-Identifier: Apache-2.0

package kafka

import (
	"context"

	kafkago "github.com/segmentio/kafka-go"
)

// locate returns the offset to start at when the group has committed nothing for the partition.
func (p *partition) locate(ctx context.Context, conn *kafkago.Conn) error {
	// kafka-go treats any error about a partition's offset as "nothing committed": fetch it again.
	committed, err := p.fetchCommitted(ctx)
	if err != nil {
		return err
	}
	if committed >= 0 {
		p.begin(committed)
		return nil
	}
	var start int64
	switch p.s.cfg.StartAt {
	case "latest":
		start, err = conn.ReadLastOffset()
	case "timestamp":
		start, err = conn.ReadOffset(*p.s.cfg.StartTimestamp)
		if err == nil && start < 0 { // every record is older
			start, err = conn.ReadLastOffset()
		}
	default:
		start, err = conn.ReadFirstOffset()
	}
	if err != nil {
		return classify("read offsets", err)
	}
	if p.s.cfg.StartAt == "latest" || p.s.cfg.StartAt == "timestamp" {
		// A restart before the first commit would look for the end again, and skip records that arrived
		// meanwhile.
		if err := p.s.commit(p.generation, map[*partition]int64{p: start}); err != nil {
			return err
		}
	}
	p.begin(start)
	return nil
}

// begin fetches from the offset on, and forgets what was in flight from another log.
func (p *partition) begin(offset int64) {
	p.next = offset
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken, p.committed, p.wanted = offset, offset, offset
	p.epoch++
}

// fetchCommitted returns the group's offset; -1 if there is none.
func (p *partition) fetchCommitted(ctx context.Context) (int64, error) {
	answer, err := p.s.cluster.client.OffsetFetch(ctx, &kafkago.OffsetFetchRequest{
		GroupID: p.generation.GroupID, Topics: map[string][]int{p.topic: {p.id}},
	})
	if err == nil {
		err = answer.Error
	}
	if err != nil {
		return 0, classify("fetch committed offset", err)
	}
	for _, found := range answer.Topics[p.topic] {
		if found.Partition != p.id {
			continue
		}
		if found.Error != nil {
			return 0, classify("fetch committed offset", found.Error)
		}
		return found.CommittedOffset, nil
	}
	return -1, nil
}

// relocate handles an offset outside the log: retention removed it, or the topic was deleted and recreated.
// Either way the log is read from its beginning.
func (p *partition) relocate(conn *kafkago.Conn) error {
	first, last, err := conn.ReadOffsets()
	if err != nil {
		return err
	}
	if p.next >= first && p.next <= last {
		return nil
	}
	if p.next < first {
		p.s.log.Error("records expired before they were read", "topic", p.topic, "partition", p.id, "records", first-p.next)
	} else {
		p.s.log.Warn("topic is shorter than the committed offset: it was recreated", "topic", p.topic, "partition", p.id, "committed", p.next, "end", last)
	}
	p.begin(first)
	return nil
}
