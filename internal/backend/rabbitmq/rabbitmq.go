// SPDX-License-Identifier: Apache-2.0

// Package rabbitmq administers a virtual host of RabbitMQ over AMQP 0-9-1: queues, exchanges and bindings.
package rabbitmq

import (
	"context"
	"fmt"
	"maps"
	"slices"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/itechsmart/operator/internal/backend"
)

// Queue is a desired queue; Messages and Consumers are observed.
type Queue struct {
	Name    string
	Durable bool
	// Type is classic (if empty), quorum or stream; the last two are durable.
	Type string
	// Arguments are the optional x-arguments, such as x-dead-letter-exchange. x-queue-type belongs in Type.
	// Values: string, bool, integers, floats.
	Arguments map[string]any
	// Messages is the number of ready messages.
	Messages int
	// Consumers is the number of consumers.
	Consumers int
}

// Exchange is a desired exchange.
type Exchange struct {
	Name    string
	Durable bool
	// Type is direct (if empty), fanout, topic, headers or one added by a plug-in.
	Type      string
	Arguments map[string]any
}

// Admin administers one virtual host. Every method honours the context's deadline and wraps a sentinel of
// package backend; each may return ErrUnavailable and ErrAuth.
type Admin interface {
	// Ping returns the broker's version, such as "3.13.1".
	Ping(ctx context.Context) (version string, err error)
	// EnsureQueue creates the queue if it is missing. ErrExists if it exists with other properties, which no
	// client can change; ErrInvalid.
	EnsureQueue(ctx context.Context, queue Queue) error
	// Queue returns the name of a queue and its numbers of messages and consumers; AMQP does not reveal its
	// properties. ErrNotFound.
	Queue(ctx context.Context, name string) (Queue, error)
	// DeleteQueue deletes a queue with its messages; ErrNotFound.
	DeleteQueue(ctx context.Context, name string) error
	// EnsureExchange creates the exchange if it is missing; errors as EnsureQueue.
	EnsureExchange(ctx context.Context, exchange Exchange) error
	// Exchange returns nil if the exchange exists; ErrNotFound.
	Exchange(ctx context.Context, name string) error
	// DeleteExchange deletes an exchange with its bindings; ErrNotFound.
	DeleteExchange(ctx context.Context, name string) error
	// BindQueue routes an exchange's messages with the key to a queue; it is idempotent. ErrNotFound if either
	// is missing.
	BindQueue(ctx context.Context, queue, exchange, key string) error
	// UnbindQueue removes the binding; a missing one is ignored.
	UnbindQueue(ctx context.Context, queue, exchange, key string) error
	// Close releases the connection.
	Close() error
}

const (
	maxName      = 255
	typeArgument = "x-queue-type"
)

// ValidName refuses names of queues and exchanges that a broker would refuse: empty, of more than 255 bytes, or
// reserved ("amq."). ErrInvalid.
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

// arguments returns the queue's arguments in AMQP's types.
func (q Queue) arguments() (amqp.Table, error) {
	if err := ValidName(q.Name); err != nil {
		return nil, err
	}
	if !slices.Contains([]string{"", "classic", "quorum", "stream"}, q.Type) {
		return nil, fmt.Errorf("queue %s: type %q is not one of classic, quorum, stream: %w", q.Name, q.Type, backend.ErrInvalid)
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

// KeyVirtualHost is the binding's key of the virtual host; "/" if missing.
const KeyVirtualHost = "virtual-host"

// URI returns amqp[s]://user:password@host:port/virtual-host.
func URI(b backend.Binding) string {
	scheme := "amqp"
	if b.TLS == "true" {
		scheme = "amqps"
	}
	return b.ComposeURI(scheme, "/"+b.Extra[KeyVirtualHost])
}
