// SPDX-License-Identifier: Apache-2.0

package rabbitmq

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"

	"github.com/itechsmart/operator/internal/backend"
)

// Fake is an in-memory virtual host. It embeds backend.Faults: Fail makes a method fail, Calls counts. Safe for
// concurrent use.
type Fake struct {
	backend.Faults

	// Version is returned by Ping.
	Version string

	mu        sync.Mutex
	queues    map[string]Queue
	exchanges map[string]Exchange
	bindings  map[[3]string]bool // queue, exchange, key
}

var _ Admin = (*Fake)(nil)

// NewFake returns an empty virtual host.
func NewFake() *Fake {
	f := &Fake{
		Version: "3.10.8", queues: map[string]Queue{},
		exchanges: map[string]Exchange{}, bindings: map[[3]string]bool{},
	}
	for _, kind := range []string{"direct", "fanout", "topic", "headers"} {
		f.exchanges["amq."+kind] = Exchange{Name: "amq." + kind, Durable: true, Type: kind}
	}
	return f
}

// SetMessages sets the number of messages in a queue.
func (f *Fake) SetMessages(queue string, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	q := f.queues[queue]
	q.Messages = n
	f.queues[queue] = q
}

// Bound reports whether a binding exists.
func (f *Fake) Bound(queue, exchange, key string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.bindings[[3]string{queue, exchange, key}]
}

// Ping implements Admin.
func (f *Fake) Ping(ctx context.Context) (string, error) {
	if err := f.Enter(ctx, "Ping"); err != nil {
		return "", err
	}
	return f.Version, nil
}

// EnsureQueue implements Admin.
func (f *Fake) EnsureQueue(ctx context.Context, queue Queue) error {
	if err := f.Enter(ctx, "EnsureQueue"); err != nil {
		return err
	}
	table, err := queue.arguments()
	if err != nil {
		return err
	}
	delete(table, typeArgument)
	queue.Arguments = table
	if queue.Type == "" {
		queue.Type = "classic"
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	got, ok := f.queues[queue.Name]
	if ok && (got.Durable != queue.Durable || got.Type != queue.Type || !reflect.DeepEqual(got.Arguments, queue.Arguments)) {
		return fmt.Errorf("rabbitmq: ensure queue %s: %w with other properties", queue.Name, backend.ErrExists)
	}
	if !ok {
		queue.Messages, queue.Consumers = 0, 0
		f.queues[queue.Name] = queue
	}
	return nil
}

// Queue implements Admin.
func (f *Fake) Queue(ctx context.Context, name string) (Queue, error) {
	if err := f.Enter(ctx, "Queue"); err != nil {
		return Queue{}, err
	}
	if err := ValidName(name); err != nil {
		return Queue{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	got, ok := f.queues[name]
	if !ok {
		return Queue{}, missing("queue", name)
	}
	return Queue{Name: name, Messages: got.Messages, Consumers: got.Consumers}, nil
}

func missing(what, name string) error {
	return fmt.Errorf("rabbitmq: %s %s: %w", what, name, backend.ErrNotFound)
}

// DeleteQueue implements Admin.
func (f *Fake) DeleteQueue(ctx context.Context, name string) error {
	if err := f.Enter(ctx, "DeleteQueue"); err != nil {
		return err
	}
	if err := ValidName(name); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.queues[name]; !ok {
		return missing("queue", name)
	}
	delete(f.queues, name)
	maps.DeleteFunc(f.bindings, func(key [3]string, _ bool) bool { return key[0] == name })
	return nil
}

// EnsureExchange implements Admin.
func (f *Fake) EnsureExchange(ctx context.Context, exchange Exchange) error {
	if err := f.Enter(ctx, "EnsureExchange"); err != nil {
		return err
	}
	if err := ValidName(exchange.Name); err != nil {
		return err
	}
	table, err := arguments("exchange "+exchange.Name, exchange.Arguments)
	if err != nil {
		return err
	}
	exchange.Type, exchange.Arguments = exchange.kindOf(), table
	if !slices.Contains([]string{"direct", "fanout", "topic", "headers"}, exchange.Type) {
		return fmt.Errorf("rabbitmq: exchange %s: unknown type %q: %w", exchange.Name, exchange.Type, backend.ErrInvalid)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	got, ok := f.exchanges[exchange.Name]
	if ok && (got.Durable != exchange.Durable || got.Type != exchange.Type || !reflect.DeepEqual(got.Arguments, exchange.Arguments)) {
		return fmt.Errorf("rabbitmq: ensure exchange %s: %w with other properties", exchange.Name, backend.ErrExists)
	}
	f.exchanges[exchange.Name] = exchange
	return nil
}

// Exchange implements Admin.
func (f *Fake) Exchange(ctx context.Context, name string) error {
	if err := f.Enter(ctx, "Exchange"); err != nil {
		return err
	}
	if err := ValidName(name); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.exchanges[name]; !ok {
		return missing("exchange", name)
	}
	return nil
}

// DeleteExchange implements Admin.
func (f *Fake) DeleteExchange(ctx context.Context, name string) error {
	if err := f.Enter(ctx, "DeleteExchange"); err != nil {
		return err
	}
	if err := ValidName(name); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.exchanges[name]; !ok {
		return missing("exchange", name)
	}
	delete(f.exchanges, name)
	maps.DeleteFunc(f.bindings, func(key [3]string, _ bool) bool { return key[1] == name })
	return nil
}

// BindQueue implements Admin.
func (f *Fake) BindQueue(ctx context.Context, queue, exchange, key string) error {
	if err := f.Enter(ctx, "BindQueue"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.queues[queue]; !ok {
		return missing("queue", queue)
	}
	if _, ok := f.exchanges[exchange]; !ok {
		return missing("exchange", exchange)
	}
	f.bindings[[3]string{queue, exchange, key}] = true
	return nil
}

// UnbindQueue implements Admin.
func (f *Fake) UnbindQueue(ctx context.Context, queue, exchange, key string) error {
	if err := f.Enter(ctx, "UnbindQueue"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.bindings, [3]string{queue, exchange, key})
	return nil
}

// Close implements Admin.
func (f *Fake) Close() error { return f.Enter(context.Background(), "Close") }
