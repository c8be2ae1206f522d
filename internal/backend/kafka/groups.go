// SPDX-License-Identifier: Apache-2.0

package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/itechsmart/operator/internal/backend"
)

// coordinatorTimeout limits the wait for a group's coordinator, which takes long for a cluster's first group.
const coordinatorTimeout = 15 * time.Second

func (a *admin) GroupLag(ctx context.Context, group, topic string) (int64, error) {
	op := fmt.Sprintf("lag of group %s on topic %s", group, topic)
	partitions, err := a.partitions(ctx, group, topic)
	if err != nil {
		return 0, err
	}
	committed, err := a.committed(ctx, group, topic, partitions)
	if err != nil {
		return 0, a.fail(op, err)
	}
	last, err := a.offsets(ctx, topic, partitions, Latest)
	if err != nil {
		return 0, a.fail(op, err)
	}
	// Deleted records cannot be read: the lag counts from the first remaining one.
	first, err := a.offsets(ctx, topic, partitions, Earliest)
	if err != nil {
		return 0, a.fail(op, err)
	}
	var lag int64
	for _, partition := range partitions {
		lag += max(0, last[partition]-max(committed[partition], first[partition]))
	}
	return lag, nil
}

func (a *admin) ResetGroup(ctx context.Context, group, topic string, to int64) error {
	op := fmt.Sprintf("reset group %s on topic %s", group, topic)
	if to < Earliest {
		return a.fail(op, fmt.Errorf("%w: position %d is not earliest, latest or a Unix time", backend.ErrInvalid, to))
	}
	partitions, err := a.partitions(ctx, group, topic)
	if err != nil {
		return err
	}
	offsets, err := a.offsets(ctx, topic, partitions, to)
	if err != nil {
		return a.fail(op, err)
	}
	last, err := a.offsets(ctx, topic, partitions, Latest)
	if err != nil {
		return a.fail(op, err)
	}
	request := &kafkago.OffsetCommitRequest{
		GroupID: group, GenerationID: -1, // not as a member
		Topics: map[string][]kafkago.OffsetCommit{},
	}
	for _, partition := range partitions {
		offset, found := offsets[partition]
		if !found || offset < 0 { // no record is that late
			offset = last[partition]
		}
		request.Topics[topic] = append(request.Topics[topic], kafkago.OffsetCommit{Partition: partition, Offset: offset})
	}
	err = a.coordinated(ctx, func(ctx context.Context) error {
		response, err := a.routed.OffsetCommit(ctx, request)
		if err != nil {
			return err
		}
		for _, partition := range response.Topics[topic] {
			if partition.Error != nil {
				return partition.Error
			}
		}
		return nil
	})
	return a.fail(op, err)
}

// partitions lists the topic's partitions.
func (a *admin) partitions(ctx context.Context, group, topic string) ([]int, error) {
	if group == "" {
		return nil, fmt.Errorf("group is empty: %w", backend.ErrInvalid)
	}
	got, err := a.Topic(ctx, topic)
	if err != nil {
		return nil, err
	}
	partitions := make([]int, got.Partitions)
	for i := range partitions {
		partitions[i] = i
	}
	return partitions, nil
}

// committed returns the group's offset of each partition, -1 where there is none.
func (a *admin) committed(ctx context.Context, group, topic string, partitions []int) (map[int]int64, error) {
	offsets := map[int]int64{}
	err := a.coordinated(ctx, func(ctx context.Context) error {
		response, err := a.routed.OffsetFetch(ctx, &kafkago.OffsetFetchRequest{
			GroupID: group, Topics: map[string][]int{topic: partitions},
		})
		if err != nil {
			return err
		}
		if response.Error != nil {
			return response.Error
		}
		for _, partition := range response.Topics[topic] {
			if partition.Error != nil {
				return partition.Error
			}
			offsets[partition.Partition] = partition.CommittedOffset
		}
		return nil
	})
	return offsets, err
}

// offsets returns the offset of each partition at a position. It retries while leaders change or are unknown.
func (a *admin) offsets(ctx context.Context, topic string, partitions []int, at int64) (map[int]int64, error) {
	offsets := map[int]int64{}
	err := a.coordinated(ctx, func(ctx context.Context) error {
		requests := make([]kafkago.OffsetRequest, len(partitions))
		for i, partition := range partitions {
			requests[i] = kafkago.OffsetRequest{Partition: partition, Timestamp: at}
		}
		response, err := a.routed.ListOffsets(ctx, &kafkago.ListOffsetsRequest{
			Topics: map[string][]kafkago.OffsetRequest{topic: requests},
		})
		if err != nil {
			return err
		}
		for _, partition := range response.Topics[topic] {
			if partition.Error != nil {
				return partition.Error
			}
			switch at {
			case Latest:
				offsets[partition.Partition] = partition.LastOffset
			case Earliest:
				offsets[partition.Partition] = partition.FirstOffset
			default:
				for offset := range partition.Offsets {
					offsets[partition.Partition] = offset
				}
			}
		}
		return nil
	})
	return offsets, err
}

// coordinated sends a request to the group coordinator or partition leaders until they are known and ready.
func (a *admin) coordinated(ctx context.Context, request func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, coordinatorTimeout)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := request(ctx)
		var code kafkago.Error
		if !errors.As(err, &code) || !code.Temporary() && code != kafkago.BrokerNotAvailable {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return err
		}
	}
}
