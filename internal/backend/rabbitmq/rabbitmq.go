// SPDX-License-Identifier: Apache-2.0

// Package rabbitmq administers a virtual host of RabbitMQ over AMQP 0-9-1:
// queues, exchanges and bindings.
package rabbitmq

import (
	"context"
	"fmt"
	"maps"
	"slices"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/itechsmart/operator/internal/backend"
)

// Queue is a queue as it should be; Messages and Consumers are observed.
type Queue struct {
	Name    string
	Durable bool
	// Type is classic (when empty), quorum or stream; the last two are durable.
	Type string
	// Arguments are the optional x-arguments, such as x-dead-letter-exchange.
	// x-queue-type belongs in Type. Values: string, bool, integers, floats.
	Arguments map[string]any
	// Messages is the number of messages that are ready.
	Messages int
	// Consumers is the number of consumers.
	Consumers int
}

// Exchange is an exchange as it should be.
type Exchange struct {
	Name    string
	Durable bool
	// Type is direct (when empty), fanout, topic, headers or what a plug-in adds.
	Type      string
	Arguments map[string]any
}

// Admin administers one virtual host. Every method honours the context's
// deadline and wraps a sentinel of package backend; ErrUnavailable and ErrAuth
// may come from each of them.
type Admin interface {
	// Ping asks for the broker's version, such as "3.13.1".
	Ping(ctx context.Context) (version string, err error)
	// EnsureQueue makes the queue, or finds it alike. ErrExists when there is one
	// with other properties, which no client can change; ErrInvalid.
	EnsureQueue(ctx context.Context, queue Queue) error
	// Queue tells how many messages and consumers a queue has, and nothing but its
	// name besides: AMQP does not tell its properties. ErrNotFound.
	Queue(ctx context.Context, name string) (Queue, error)
	// DeleteQueue deletes a queue with its messages; ErrNotFound.
	DeleteQueue(ctx context.Context, name string) error
	// EnsureExchange makes the exchange, or finds it alike; errors as EnsureQueue.
	EnsureExchange(ctx context.Context, exchange Exchange) error
	// Exchange is nil when the exchange exists; ErrNotFound.
	Exchange(ctx context.Context, name string) error
	// DeleteExchange deletes an exchange with its bindings; ErrNotFound.
	DeleteExchange(ctx context.Context, name string) error
	// BindQueue routes an exchange's messages with the key to a queue, and changes
	// nothing when it is so. ErrNotFound when either is missing.
	BindQueue(ctx context.Context, queue, exchange, key string) error
	// UnbindQueue ends that; nothing happens when it was not so.
	UnbindQueue(ctx context.Context, queue, exchange, key string) error
	// Close releases the connection.
	Close() error
}

const (
	maxName      = 255
	typeArgument = "x-queue-type"
)

// ValidName refuses names of queues and exchanges that a broker would refuse to
// a client: empty, of more than 255 bytes, or reserved ("amq."). ErrInvalid.
func ValidName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("name is empty: %w", backend.ErrInvalid)
	case len(name) > maxName:
		return fmt.Errorf("name has %d bytes, at most %d are allowed: %w", len(name), maxName, backend.ErrInvalid)
	case len(name) >= 4 && name[:4] == "amq.":
		return fmt.Errorf("name %q: the prefix \"amq.\" is reserved: %w", name, backend.ErrInvalid)
	}
	return nil
}

// arguments returns the queue's in AMQP's types.
func (q Queue) arguments() (amqp.Table, error) {
	if err := ValidName(q.Name); err != nil {
		return nil, err
	}
	if !slices.Contains([]string{"", "classic", "quorum", "stream"}, q.Type) {
		return nil, fmt.Errorf("queue %s: type %q is none of classic, quorum, stream: %w", q.Name, q.Type, backend.ErrInvalid)
	}
	if q.Type != "" && q.Type != "classic" && !q.Durable {
		return nil, fmt.Errorf("queue %s: type %s must be durable: %w", q.Name, q.Type, backend.ErrInvalid)
	}
	table, err := arguments("queue "+q.Name, q.Arguments)
	if err != nil {
		return nil, err
	}
	if q.Type != "" {
		table[typeArgument] = q.Type
	}
	return table, nil
}

func arguments(of string, from map[string]any) (amqp.Table, error) {
	table := amqp.Table{}
	maps.Copy(table, from)
	if _, ok := table[typeArgument]; ok {
		return nil, fmt.Errorf("%s: argument %s belongs in the field Type: %w", of, typeArgument, backend.ErrInvalid)
	}
	for key, value := range table {
		// The broker compares types too; a number from JSON is a float64.
		switch n := value.(type) {
		case int:
			table[key] = int64(n)
		case float64:
			if n == float64(int64(n)) {
				table[key] = int64(n)
			}
		}
	}
	if err := table.Validate(); err != nil {
		return nil, fmt.Errorf("%s: arguments: %w: %w", of, backend.ErrInvalid, err)
	}
	return table, nil
}

// kindOf returns the exchange's type.
func (e Exchange) kindOf() string {
	if e.Type == "" {
		return amqp.ExchangeDirect
	}
	return e.Type
}

// KeyVirtualHost of a binding is the virtual host; "/" without.
const KeyVirtualHost = "virtual-host"

// URI returns amqp[s]://user:password@host:port/virtual-host.
func URI(b backend.Binding) string {
	scheme := "amqp"
	if b.TLS == "true" {
		scheme = "amqps"
	}
	return b.ComposeURI(scheme, "/"+b.Extra[KeyVirtualHost])
}
