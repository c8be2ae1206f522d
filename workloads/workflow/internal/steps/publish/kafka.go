// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/itechsmart/operator/internal/backend"
	backendkafka "github.com/itechsmart/operator/internal/backend/kafka"
)

// batchTime is how long a message waits to be batched with others.
const batchTime = 2 * time.Millisecond

type kafkaBroker struct {
	binding   backend.Binding
	transport *kafkago.Transport
	writer    *kafkago.Writer
}

func newKafka(b backend.Binding) (broker, error) {
	transport, err := backendkafka.Transport(b)
	if err != nil {
		return nil, err
	}
	return &kafkaBroker{binding: b, transport: transport, writer: &kafkago.Writer{
		Addr: backendkafka.Addr(b), Transport: transport, RequiredAcks: kafkago.RequireAll,
		Balancer:     kafkago.Murmur2Balancer{}, // partitions like Kafka's own clients
		BatchTimeout: batchTime, MaxAttempts: 3,
	}}, nil
}

// validTopic checks a name by Kafka's rules.
func validTopic(name string) bool { return backendkafka.ValidTopic(name) == nil }

func (k *kafkaBroker) send(ctx context.Context, m message) error {
	record := kafkago.Message{Topic: m.topic, Value: m.body}
	if m.key != "" {
		record.Key = []byte(m.key)
	}
	for _, name := range slices.Sorted(maps.Keys(m.headers)) {
		record.Headers = append(record.Headers, kafkago.Header{Key: name, Value: []byte(m.headers[name])})
	}
	err := k.writer.WriteMessages(ctx, record)
	if err == nil {
		return nil
	}
	var each kafkago.WriteErrors
	if errors.As(err, &each) && len(each) == 1 && each[0] != nil {
		err = each[0]
	}
	return k.binding.Error("kafka: publish to topic "+m.topic, kindOf(err), err)
}

// kindOf returns the sentinel of a broker's error, or nil to apply the common rules.
func kindOf(err error) error {
	var large kafkago.MessageTooLargeError
	switch {
	case errors.As(err, &large), errors.Is(err, kafkago.MessageSizeTooLarge), errors.Is(err, kafkago.InvalidTopic):
		return backend.ErrInvalid
	case errors.Is(err, kafkago.UnknownTopicOrPartition):
		return backend.ErrNotFound
	case errors.Is(err, kafkago.TopicAuthorizationFailed), errors.Is(err, kafkago.ClusterAuthorizationFailed), errors.Is(err, kafkago.SASLAuthenticationFailed):
		return backend.ErrAuth
	}
	return nil
}

func (k *kafkaBroker) close() {
	_ = k.writer.Close() // nothing is left to send
	k.transport.CloseIdleConnections()
}
