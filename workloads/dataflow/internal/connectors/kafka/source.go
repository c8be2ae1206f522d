// SPDX-License-Identifier: Apache-2.0

package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connector"
	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
)

const (
	requestTimeout = 10 * time.Second
	// joinBackoff is kafka-go's pause after a failed attempt to join the group.
	joinBackoff = time.Second
	// watchInterval is how soon new partitions are detected.
	watchInterval = 5 * time.Second
	// rebalance is how long members may take to release their partitions, and letGo how much of that this
	// member spends waiting for acknowledgements.
	rebalance = 30 * time.Second
	letGo     = 8 * time.Second
	// fetchMemory limits the fetched records that all partitions together hold until they are read.
	fetchMemory = 64 << 20
)

// source is one member of a consumer group.
//
// kafka-go's ConsumerGroup joins and rejoins; each generation assigns partitions, and a goroutine per partition
// fetches. Commits name their generation, so that after a rebalance the broker refuses late ones, and another
// member's offset never goes back.
type source struct {
	cfg     SourceConfig
	topics  []string
	env     connector.Env
	log     *slog.Logger
	cluster *cluster
	group   *kafkago.ConsumerGroup

	out    chan *record.Batch // unbuffered: a partition holds at most one unread batch
	errs   chan error         // the latest error, for Read to return
	well   chan struct{}      // a partition works again
	ctx    context.Context
	cancel context.CancelFunc
	loop   sync.WaitGroup

	// unreachable: the last commit did not reach the broker.
	unreachable atomic.Bool

	mu       sync.Mutex
	assigned []*partition
}

func openSource(ctx context.Context, cfg SourceConfig, env connector.Env) (connector.Source, error) {
	topics, err := cfg.all()
	if err != nil {
		return nil, err
	}
	if cfg.StartAt == "timestamp" && cfg.StartTimestamp == nil {
		return nil, fmt.Errorf("config.startTimestamp: is required when startAt is timestamp: %w", backend.ErrInvalid)
	}
	if env.Group == "" {
		return nil, fmt.Errorf("consumer group: is required: %w", backend.ErrInvalid)
	}
	cluster, err := connect(env.Binding, requestTimeout)
	if err != nil {
		return nil, err
	}
	if _, err := cluster.partitions(ctx, topics...); err != nil {
		cluster.close()
		return nil, err
	}
	session := orDefault(time.Duration(cfg.SessionTimeout), 10*time.Second)
	group, err := kafkago.NewConsumerGroup(kafkago.ConsumerGroupConfig{
		ID: env.Group, Brokers: cluster.brokers, Dialer: cluster.dialer, Topics: topics,
		GroupBalancers:        []kafkago.GroupBalancer{kafkago.RoundRobinGroupBalancer{}},
		HeartbeatInterval:     min(session/5, time.Second),
		SessionTimeout:        session,
		RebalanceTimeout:      rebalance,
		JoinGroupBackoff:      joinBackoff,
		Timeout:               requestTimeout,
		WatchPartitionChanges: true, PartitionWatchInterval: watchInterval,
		StartOffset: kafkago.FirstOffset, // replaced by the partition's own choice if nothing is committed
	})
	if err != nil {
		cluster.close()
		return nil, fmt.Errorf("consumer group: %w: %w", backend.ErrInvalid, err)
	}
	log := env.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &source{
		cfg: cfg, topics: topics, env: env, log: log, cluster: cluster, group: group,
		out: make(chan *record.Batch), errs: make(chan error, 1), well: make(chan struct{}, 1),
	}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.loop.Go(s.follow)
	return s, nil
}

// follow handles one generation after another.
func (s *source) follow() {
	for {
		generation, err := s.group.Next(s.ctx)
		switch {
		case err == nil:
			s.begin(generation)
		case errors.Is(err, kafkago.ErrGroupClosed) || s.ctx.Err() != nil:
			return
		case errors.Is(err, kafkago.RebalanceInProgress):
			// A member joined or left, which is normal.
		default:
			s.report(classify("join consumer group", err))
		}
	}
}

// begin starts a goroutine per partition of this generation.
func (s *source) begin(generation *kafkago.Generation) {
	s.unreachable.Store(false)
	s.mu.Lock()
	before := s.assigned
	s.mu.Unlock()
	assigned := []*partition{} // not nil: this is a member, even without a partition
	for topic, list := range generation.Assignments {
		for _, a := range list {
			assigned = append(assigned, s.assign(generation, topic, a, before))
		}
	}
	for _, p := range before {
		if !slices.Contains(assigned, p) {
			p.lose()
		}
	}
	s.mu.Lock()
	s.assigned = assigned
	s.mu.Unlock()
	s.log.Info("joined consumer group", "group", generation.GroupID, "generation", generation.ID, "partitions", len(assigned))
	perPartition := fetchMemory / max(1, len(assigned))
	for _, p := range assigned {
		p.maxBytes = max(64<<10, min(orDefault(s.cfg.MaxBytes, 4<<20), perPartition))
		generation.Start(p.run)
	}
	if len(assigned) == 0 {
		s.recovered()
	}
}

func (s *source) assign(generation *kafkago.Generation, topic string, a kafkago.PartitionAssignment, before []*partition) *partition {
	for _, p := range before {
		if p.topic == topic && p.id == a.ID && p.keep(generation, a.Offset) {
			return p
		}
	}
	return newPartition(s, generation, topic, a.ID, a.Offset)
}

// report makes Read return the error; only the latest is kept.
func (s *source) report(err error) {
	for {
		select {
		case s.errs <- err:
			return
		default:
		}
		select {
		case <-s.errs:
		default:
		}
	}
}

func (s *source) recovered() {
	select {
	case s.well <- struct{}{}:
	default:
	}
}

// Read returns what a partition fetched. An empty batch means that the connection works.
func (s *source) Read(ctx context.Context) (*record.Batch, error) {
	select { // Records first: an error of one partition does not delay the others.
	case batch := <-s.out:
		return batch, nil
	default:
	}
	select {
	case batch := <-s.out:
		return batch, nil
	case err := <-s.errs:
		return nil, err
	case <-s.well:
		return &record.Batch{}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// place is the Position of a batch.
type place struct {
	partition *partition
	next      int64 // the offset after the batch's last record
	epoch     int
}

// Ack commits the offsets. Between two generations it keeps them, and they are committed as soon as this member
// owns the partition again. If another member owns it, that one reads from the committed offset, which is left
// alone.
func (s *source) Ack(_ context.Context, batches []*record.Batch) error {
	latest := map[*partition]place{}
	for _, batch := range batches {
		if at, ok := batch.Position.(place); ok {
			latest[at.partition] = at // batches come in the order of Read
		}
	}
	byGeneration := map[*kafkago.Generation]map[*partition]int64{}
	for p, at := range latest {
		generation, offset := p.acked(at)
		if generation == nil {
			continue
		}
		if byGeneration[generation] == nil {
			byGeneration[generation] = map[*partition]int64{}
		}
		byGeneration[generation][p] = offset
	}
	for generation, offsets := range byGeneration {
		if err := s.commit(generation, offsets); err != nil {
			return err
		}
	}
	return nil
}

// flush commits what Ack could not.
func (s *source) flush(p *partition) error {
	p.mu.Lock()
	generation, offset := p.generation, p.wanted
	done := offset <= p.committed || generation == nil
	p.mu.Unlock()
	if done {
		return nil
	}
	return s.commit(generation, map[*partition]int64{p: offset})
}

// commit returns no error for a generation that is over.
func (s *source) commit(generation *kafkago.Generation, offsets map[*partition]int64) error {
	request := map[string]map[int]int64{}
	for p, offset := range offsets {
		if request[p.topic] == nil {
			request[p.topic] = map[int]int64{}
		}
		request[p.topic][p.id] = offset
	}
	err := generation.CommitOffsets(request)
	switch {
	case err == nil:
		s.unreachable.Store(false)
		for p, offset := range offsets {
			p.commits(offset)
		}
		return nil
	case errors.Is(err, kafkago.IllegalGeneration), errors.Is(err, kafkago.UnknownMemberId),
		errors.Is(err, kafkago.RebalanceInProgress), errors.Is(err, kafkago.FencedInstanceID):
		s.log.Info("the generation of the consumer group is over; offsets wait for the next", "generation", generation.ID, "reason", err)
		return nil
	}
	s.unreachable.Store(true)
	for p := range offsets {
		p.mu.Lock()
		over := p.generation != generation
		p.mu.Unlock()
		if over {
			return nil
		}
	}
	return classify("commit offsets", err)
}

var errNotJoined = errors.New("not a member of the consumer group yet")

// Lag asks the partition leaders for their last offsets.
func (s *source) Lag(ctx context.Context) (int64, error) {
	s.mu.Lock()
	assigned := s.assigned
	s.mu.Unlock()
	if assigned == nil {
		return 0, errNotJoined
	}
	request := &kafkago.ListOffsetsRequest{Topics: map[string][]kafkago.OffsetRequest{}}
	done := map[string]map[int]int64{}
	for _, p := range assigned {
		at := p.position()
		if at < 0 {
			continue // its first offset is not known yet
		}
		request.Topics[p.topic] = append(request.Topics[p.topic], kafkago.LastOffsetOf(p.id))
		if done[p.topic] == nil {
			done[p.topic] = map[int]int64{}
		}
		done[p.topic][p.id] = at
	}
	if len(request.Topics) == 0 {
		return 0, nil
	}
	answer, err := s.cluster.client.ListOffsets(ctx, request)
	if err != nil {
		return 0, classify("list offsets", err)
	}
	var lag int64
	for topic, list := range answer.Topics {
		for _, p := range list {
			if p.Error != nil {
				return 0, classify("list offsets", p.Error)
			}
			lag += max(0, p.LastOffset-done[topic][p.Partition])
		}
	}
	return lag, nil
}

// Close leaves the group.
func (s *source) Close(ctx context.Context) error {
	s.cancel()
	left := make(chan error, 1)
	go func() {
		err := s.group.Close()
		s.loop.Wait()
		s.cluster.close()
		left <- err
	}()
	select {
	case err := <-left:
		return err
	case <-ctx.Done():
		// The broker removes the member after the session timeout.
		return fmt.Errorf("leave consumer group: %w", ctx.Err())
	}
}
