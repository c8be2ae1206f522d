// SPDX-License-Identifier: Apache-2.0

package kafka

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/itechsmart/operator/internal/backend"
	backendkafka "github.com/itechsmart/operator/internal/backend/kafka"
)

// readBuffer is the size of one read from a connection. kafka-go reads 4 KiB at a time, which is a system call
// for every few records.
const readBuffer = 128 << 10

// cluster is a connection to a Kafka cluster.
type cluster struct {
	brokers   []string
	dialer    *kafkago.Dialer
	transport *kafkago.Transport
	client    *kafkago.Client
}

func connect(binding backend.Binding, timeout time.Duration) (*cluster, error) {
	dialer, err := backendkafka.Dialer(binding)
	if err != nil {
		return nil, err
	}
	dialer.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{Timeout: dialer.Timeout}).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &bufferedConn{Conn: conn, reader: bufio.NewReaderSize(conn, readBuffer)}, nil
	}
	transport, err := backendkafka.Transport(binding)
	if err != nil {
		return nil, err
	}
	addr := backendkafka.Addr(binding)
	return &cluster{
		brokers: binding.Brokers(), dialer: dialer, transport: transport,
		client: &kafkago.Client{Addr: addr, Transport: transport, Timeout: timeout},
	}, nil
}

func (c *cluster) close() { c.transport.CloseIdleConnections() }

// bufferedConn reads ahead, so that small reads cost no system call.
type bufferedConn struct {
	net.Conn
	reader *bufio.Reader
}

func (c *bufferedConn) Read(p []byte) (int, error) { return c.reader.Read(p) }

// partitions returns the number of partitions of each topic; a missing topic is backend.ErrNotFound.
func (c *cluster) partitions(ctx context.Context, topics ...string) (map[string]int, error) {
	answer, err := c.client.Metadata(ctx, &kafkago.MetadataRequest{Topics: topics})
	if err != nil {
		return nil, classify("read metadata", err)
	}
	counts := map[string]int{}
	for _, topic := range answer.Topics {
		if topic.Error != nil {
			return nil, topicError(topic.Name, topic.Error)
		}
		counts[topic.Name] = len(topic.Partitions)
	}
	for _, name := range topics {
		if counts[name] == 0 {
			return nil, topicError(name, kafkago.UnknownTopicOrPartition)
		}
	}
	return counts, nil
}

func topicError(name string, err error) error {
	if errors.Is(err, kafkago.UnknownTopicOrPartition) {
		return fmt.Errorf("topic %q does not exist on the broker: %w", name, backend.ErrNotFound)
	}
	return classify(fmt.Sprintf("topic %q", name), err)
}

// leader connects to the partition's leader, found through the first broker that answers.
func (c *cluster) leader(ctx context.Context, topic string, partition int) (*kafkago.Conn, error) {
	var first error
	for _, broker := range c.brokers {
		conn, err := c.dialer.DialLeader(ctx, "tcp", broker, topic, partition)
		if err == nil {
			return conn, nil
		}
		if first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	if errors.Is(first, kafkago.UnknownTopicOrPartition) {
		return nil, topicError(topic, first)
	}
	return nil, classify("connect", first)
}

// classify wraps an error in the shared sentinel. Errors that a retry may fix are ErrUnavailable.
func classify(what string, err error) error {
	var code kafkago.Error
	kind := backend.ErrUnavailable
	if errors.As(err, &code) {
		switch code {
		case kafkago.SASLAuthenticationFailed, kafkago.UnsupportedSASLMechanism, kafkago.TopicAuthorizationFailed,
			kafkago.GroupAuthorizationFailed, kafkago.ClusterAuthorizationFailed:
			kind = backend.ErrAuth
		case kafkago.UnknownTopicOrPartition:
			kind = backend.ErrNotFound
		}
	}
	if errors.Is(err, kind) {
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: %w: %w", what, kind, err)
}
