// SPDX-License-Identifier: Apache-2.0

package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"

	"github.com/itechsmart/operator/internal/backend"
)

// clientID identifies us in the brokers' logs and quotas.
const clientID = "itechsmart"

const dialTimeout = 10 * time.Second

// Transport returns a transport for kafka-go's Client and Writer, with the binding's SASL and TLS. Close it by
// CloseIdleConnections. ErrInvalid if the binding is invalid.
func Transport(b backend.Binding) (*kafkago.Transport, error) {
	dialer, err := Dialer(b)
	if err != nil {
		return nil, err
	}
	return &kafkago.Transport{
		Dial:        (&net.Dialer{Timeout: dialTimeout}).DialContext,
		DialTimeout: dialTimeout,
		ClientID:    clientID,
		TLS:         dialer.TLS,
		SASL:        dialer.SASLMechanism,
	}, nil
}

// Dialer returns a dialer for kafka-go's Reader and ConsumerGroup, with the binding's SASL and TLS. ErrInvalid
// if the binding is invalid.
func Dialer(b backend.Binding) (*kafkago.Dialer, error) {
	if len(b.Brokers()) == 0 {
		return nil, fmt.Errorf("binding lacks key %q: %w", "bootstrap-servers", backend.ErrInvalid)
	}
	for _, broker := range b.Brokers() {
		if _, _, err := net.SplitHostPort(broker); err != nil {
			return nil, fmt.Errorf("binding key %q: %q is not host:port: %w", "bootstrap-servers", broker, backend.ErrInvalid)
		}
	}
	config, err := b.TLSConfig()
	if err != nil {
		return nil, err
	}
	mechanism, err := mechanism(b)
	if err != nil {
		return nil, err
	}
	return &kafkago.Dialer{
		ClientID: clientID, Timeout: dialTimeout, DualStack: true,
		TLS: config, SASLMechanism: mechanism,
	}, nil
}

// Addr returns the bootstrap list for kafka-go's Client and Writer.
func Addr(b backend.Binding) net.Addr { return kafkago.TCP(b.Brokers()...) }

func mechanism(b backend.Binding) (sasl.Mechanism, error) {
	if b.SASLMechanism == "" {
		return nil, nil
	}
	if err := b.Require("username", "password"); err != nil {
		return nil, err
	}
	var algorithm scram.Algorithm
	switch strings.ToUpper(b.SASLMechanism) {
	case "PLAIN":
		return plain.Mechanism{Username: b.Username, Password: b.Password}, nil
	case "SCRAM-SHA-256":
		algorithm = scram.SHA256
	case "SCRAM-SHA-512":
		algorithm = scram.SHA512
	default:
		return nil, fmt.Errorf("binding key %q: %q is not one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512: %w",
			"sasl-mechanism", b.SASLMechanism, backend.ErrInvalid)
	}
	m, err := scram.Mechanism(algorithm, b.Username, b.Password)
	if err != nil {
		// The cause is about characters that SASLprep forbids and may quote them.
		return nil, fmt.Errorf("binding keys %q and %q are not valid for %s: %w", "username", "password", b.SASLMechanism, backend.ErrInvalid)
	}
	return m, nil
}

// kindOf returns the sentinel of a broker's response; nil leaves it to the shared rules.
func kindOf(err error) error {
	// A broker that refuses a login may just close the connection, which the transport reports by this code.
	var code kafkago.Error
	if !errors.As(err, &code) {
		if errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) {
			return backend.ErrUnavailable
		}
		return nil
	}
	switch code {
	case kafkago.UnknownTopicOrPartition, kafkago.GroupIdNotFound, kafkago.ResourceNotFound:
		return backend.ErrNotFound
	case kafkago.TopicAlreadyExists:
		return backend.ErrExists
	case kafkago.SASLAuthenticationFailed, kafkago.UnsupportedSASLMechanism, kafkago.IllegalSASLState,
		kafkago.TopicAuthorizationFailed, kafkago.GroupAuthorizationFailed, kafkago.ClusterAuthorizationFailed,
		kafkago.BrokerAuthorizationFailed, kafkago.SecurityDisabled:
		return backend.ErrAuth
	case kafkago.InvalidTopic, kafkago.InvalidPartitionNumber, kafkago.InvalidReplicationFactor,
		kafkago.InvalidReplicaAssignment, kafkago.InvalidConfiguration, kafkago.InvalidRequest,
		kafkago.PolicyViolation, kafkago.TopicDeletionDisabled, kafkago.UnsupportedVersion,
		kafkago.UnknownMemberId, kafkago.NonEmptyGroup, kafkago.InvalidGroupId:
		return backend.ErrInvalid
	}
	return backend.ErrUnavailable
}
