// SPDX-License-Identifier: Apache-2.0

package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/itechsmart/operator/internal/backend"
)

const (
	// settleInterval is how often the broker is polled until a change is visible.
	settleInterval = 20 * time.Millisecond
	// topicsPerRequest limits the size of one response.
	topicsPerRequest = 500
	// dynamicTopicConfig is the source of a setting made on the topic itself.
	dynamicTopicConfig = 1
	brokerDefault      = -1
)

// admin implements Admin on a real cluster.
type admin struct {
	binding backend.Binding
	addr    net.Addr
	direct  *direct
	// any reaches any broker, routed the one in charge.
	any, routed *kafkago.Client
	transport   *kafkago.Transport
}

// New returns a client that connects on the first call. ErrInvalid names the key that the binding lacks.
func New(b backend.Binding) (Admin, error) {
	dialer, err := Dialer(b)
	if err != nil {
		return nil, err
	}
	transport, err := Transport(b)
	if err != nil {
		return nil, err
	}
	d := newDirect(b.Brokers(), dialer)
	return &admin{
		binding: b, addr: Addr(b), direct: d, transport: transport,
		any:    &kafkago.Client{Addr: Addr(b), Transport: d},
		routed: &kafkago.Client{Addr: Addr(b), Transport: transport},
	}, nil
}

func (a *admin) Close() error {
	a.direct.close()
	a.transport.CloseIdleConnections()
	return nil
}

func (a *admin) fail(op string, err error) error {
	return a.binding.Error("kafka: "+op, kindOf(err), err)
}

func (a *admin) Ping(ctx context.Context) (string, error) {
	response, err := a.direct.RoundTrip(ctx, nil, &features{})
	if err != nil {
		return "", a.fail("ping", err)
	}
	return release(response.(*features).level), nil
}

func (a *admin) Topic(ctx context.Context, name string) (Topic, error) {
	if err := ValidTopic(name); err != nil {
		return Topic{}, err
	}
	topics, err := a.Topics(ctx, []string{name})
	if err != nil {
		return Topic{}, err
	}
	topic, ok := topics[name]
	if !ok {
		return Topic{}, a.fail("topic "+name, backend.ErrNotFound)
	}
	return topic, nil
}

func (a *admin) Topics(ctx context.Context, names []string) (map[string]Topic, error) {
	topics := make(map[string]Topic, len(names))
	for chunk := range slices.Chunk(names, topicsPerRequest) {
		if err := a.shapes(ctx, chunk, topics); err != nil {
			return nil, a.fail("topics", err)
		}
	}
	existing := make([]string, 0, len(topics))
	for name := range topics {
		existing = append(existing, name)
	}
	for chunk := range slices.Chunk(existing, topicsPerRequest) {
		if err := a.configs(ctx, chunk, topics); err != nil {
			return nil, a.fail("topics", err)
		}
	}
	return topics, nil
}

// shapes reads partitions and replication of the existing topics.
func (a *admin) shapes(ctx context.Context, names []string, into map[string]Topic) error {
	response, err := a.any.Metadata(ctx, &kafkago.MetadataRequest{Topics: names})
	if err != nil {
		return err
	}
	for _, t := range response.Topics {
		switch {
		case errors.Is(t.Error, kafkago.UnknownTopicOrPartition):
			continue
		case t.Error != nil:
			return fmt.Errorf("topic %s: %w", t.Name, t.Error)
		}
		topic := Topic{Name: t.Name, Partitions: int32(len(t.Partitions)), Config: map[string]string{}}
		if len(t.Partitions) > 0 {
			topic.ReplicationFactor = int16(len(t.Partitions[0].Replicas))
		}
		into[t.Name] = topic
	}
	return nil
}

// configs adds the settings that are set on the topics themselves. A topic that was deleted meanwhile is
// removed.
func (a *admin) configs(ctx context.Context, names []string, into map[string]Topic) error {
	request := &kafkago.DescribeConfigsRequest{}
	for _, name := range names {
		request.Resources = append(request.Resources, kafkago.DescribeConfigRequestResource{
			ResourceType: kafkago.ResourceTypeTopic, ResourceName: name,
		})
	}
	response, err := a.any.DescribeConfigs(ctx, request)
	if err != nil {
		return err
	}
	for _, resource := range response.Resources {
		if errors.Is(resource.Error, kafkago.UnknownTopicOrPartition) {
			delete(into, resource.ResourceName)
			continue
		}
		if resource.Error != nil {
			return fmt.Errorf("topic %s: %w", resource.ResourceName, resource.Error)
		}
		for _, entry := range resource.ConfigEntries {
			if entry.ConfigSource == dynamicTopicConfig && !entry.IsSensitive {
				into[resource.ResourceName].Config[entry.ConfigName] = entry.ConfigValue
			}
		}
	}
	return nil
}

func (a *admin) CreateTopic(ctx context.Context, topic Topic) error {
	if err := topic.validate(); err != nil {
		return err
	}
	op := "create topic " + topic.Name
	config := kafkago.TopicConfig{
		Topic: topic.Name, NumPartitions: brokerDefault, ReplicationFactor: brokerDefault,
	}
	if topic.Partitions > 0 {
		config.NumPartitions = int(topic.Partitions)
	}
	if topic.ReplicationFactor > 0 {
		config.ReplicationFactor = int(topic.ReplicationFactor)
	}
	for key, value := range topic.Config {
		config.ConfigEntries = append(config.ConfigEntries, kafkago.ConfigEntry{ConfigName: key, ConfigValue: value})
	}
	request := &kafkago.CreateTopicsRequest{Topics: []kafkago.TopicConfig{config}}
	err := a.controller(func(c *kafkago.Client) error {
		response, err := c.CreateTopics(ctx, request)
		if err != nil {
			return err
		}
		return response.Errors[topic.Name]
	})
	if err != nil {
		return a.fail(op, err)
	}
	return a.settle(ctx, op, topic.Name, func(_ Topic, exists bool) bool { return exists })
}

func (a *admin) UpdateTopic(ctx context.Context, topic Topic) error {
	if err := topic.validate(); err != nil {
		return err
	}
	op := "update topic " + topic.Name
	got, err := a.Topic(ctx, topic.Name)
	if err != nil {
		return err
	}
	if topic.Partitions > 0 && topic.Partitions < got.Partitions {
		return a.fail(op, fmt.Errorf("%w: it has %d partitions and cannot shrink to %d",
			backend.ErrInvalid, got.Partitions, topic.Partitions))
	}
	if topic.Partitions > got.Partitions {
		if err := a.grow(ctx, topic); err != nil {
			return a.fail(op, err)
		}
	}
	var changes []kafkago.IncrementalAlterConfigsRequestConfig
	for key, value := range topic.Config {
		if is, ok := got.Config[key]; !ok || is != value {
			changes = append(changes, kafkago.IncrementalAlterConfigsRequestConfig{
				Name: key, Value: value, ConfigOperation: kafkago.ConfigOperationSet,
			})
		}
	}
	if err := a.alter(ctx, topic.Name, changes); err != nil {
		return a.fail(op, err)
	}
	return a.settle(ctx, op, topic.Name, func(now Topic, exists bool) bool {
		if !exists || now.Partitions < topic.Partitions {
			return false
		}
		for _, change := range changes {
			if _, set := now.Config[change.Name]; !set {
				return false
			}
		}
		return true
	})
}

func (a *admin) grow(ctx context.Context, topic Topic) error {
	return a.controller(func(c *kafkago.Client) error {
		response, err := c.CreatePartitions(ctx, &kafkago.CreatePartitionsRequest{
			Topics: []kafkago.TopicPartitionsConfig{{Name: topic.Name, Count: topic.Partitions}},
		})
		if err != nil {
			return err
		}
		return response.Errors[topic.Name]
	})
}

func (a *admin) alter(ctx context.Context, topic string, changes []kafkago.IncrementalAlterConfigsRequestConfig) error {
	if len(changes) == 0 {
		return nil
	}
	return a.controller(func(c *kafkago.Client) error {
		response, err := c.IncrementalAlterConfigs(ctx, &kafkago.IncrementalAlterConfigsRequest{
			Resources: []kafkago.IncrementalAlterConfigsRequestResource{{
				ResourceType: kafkago.ResourceTypeTopic, ResourceName: topic, Configs: changes,
			}},
		})
		if err != nil {
			return err
		}
		for _, resource := range response.Resources {
			if resource.Error != nil {
				return resource.Error
			}
		}
		return nil
	})
}

func (a *admin) ResetConfig(ctx context.Context, topic string, keys []string) error {
	op := "reset config of topic " + topic
	got, err := a.Topic(ctx, topic)
	if err != nil {
		return err
	}
	var changes []kafkago.IncrementalAlterConfigsRequestConfig
	for _, key := range keys {
		if _, set := got.Config[key]; set {
			changes = append(changes, kafkago.IncrementalAlterConfigsRequestConfig{
				Name: key, ConfigOperation: kafkago.ConfigOperationDelete,
			})
		}
	}
	if err := a.alter(ctx, topic, changes); err != nil {
		return a.fail(op, err)
	}
	return a.settle(ctx, op, topic, func(now Topic, exists bool) bool {
		return !exists || !slices.ContainsFunc(keys, func(key string) bool { _, set := now.Config[key]; return set })
	})
}

func (a *admin) DeleteTopic(ctx context.Context, name string) error {
	if err := ValidTopic(name); err != nil {
		return err
	}
	op := "delete topic " + name
	err := a.controller(func(c *kafkago.Client) error {
		response, err := c.DeleteTopics(ctx, &kafkago.DeleteTopicsRequest{Topics: []string{name}})
		if err != nil {
			return err
		}
		return response.Errors[name]
	})
	if err != nil {
		return a.fail(op, err)
	}
	return a.settle(ctx, op, name, func(_ Topic, exists bool) bool { return !exists })
}

// controller sends a request that only the controller serves. Brokers in KRaft mode forward it; older ones have
// to be asked for the controller.
func (a *admin) controller(request func(*kafkago.Client) error) error {
	err := request(a.any)
	if errors.Is(err, kafkago.NotController) {
		err = request(a.routed)
	}
	return err
}

// settle waits until a broker shows the controller's change, so that callers read what they wrote.
func (a *admin) settle(ctx context.Context, op, name string, seen func(topic Topic, exists bool) bool) error {
	ticker := time.NewTicker(settleInterval)
	defer ticker.Stop()
	for {
		topics, err := a.Topics(ctx, []string{name})
		if err != nil {
			return err
		}
		topic, exists := topics[name]
		if seen(topic, exists) {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return a.fail(op+": wait until it is visible", ctx.Err())
		}
	}
}
