// SPDX-License-Identifier: Apache-2.0

package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/itechsmart/operator/internal/backend"
)

const (
	dialTimeout = 10 * time.Second
	heartbeat   = 10 * time.Second
	// connectionName is the name shown by the broker's own tools.
	connectionName = "itechsmart"
)

// Dial connects to the binding's broker: for connectors, and for this package. Key virtual-host is the virtual
// host, "/" if empty. The context limits the whole handshake. Errors wrap the sentinels of package backend.
func Dial(ctx context.Context, b backend.Binding) (*amqp.Connection, error) {
	if err := b.Require("host", "port", "username", "password"); err != nil {
		return nil, err
	}
	config, err := b.TLSConfig()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var network net.Conn
	var stop func() bool
	properties := amqp.NewConnectionProperties()
	properties.SetClientConnectionName(connectionName)
	scheme := "amqp"
	if config != nil {
		scheme = "amqps"
	}
	target := url.URL{Scheme: scheme, Host: b.Address(), Path: "/"}
	conn, err := amqp.DialConfig(target.String(), amqp.Config{
		SASL:  []amqp.Authentication{&amqp.PlainAuth{Username: b.Username, Password: b.Password}},
		Vhost: virtualHost(b), Heartbeat: heartbeat, TLSClientConfig: config, Properties: properties,
		Dial: func(network_, address string) (net.Conn, error) {
			network, err = (&net.Dialer{}).DialContext(ctx, network_, address)
			if err != nil {
				return nil, err
			}
			// The library's handshake ignores the context.
			stop = context.AfterFunc(ctx, func() { _ = network.SetDeadline(time.Unix(1, 0)) })
			return network, nil
		},
	})
	if stop != nil {
		stop()
	}
	if err != nil {
		if network != nil {
			_ = network.Close()
		}
		return nil, Error(b, "dial", errors.Join(ctx.Err(), err))
	}
	// From here on heartbeats apply.
	if err := network.SetDeadline(time.Time{}); err != nil {
		return nil, Error(b, "dial", errors.Join(err, conn.Close()))
	}
	return conn, nil
}

func virtualHost(b backend.Binding) string {
	if host := b.Extra[KeyVirtualHost]; host != "" {
		return host
	}
	return "/"
}

// Error wraps a client's error in the matching sentinel.
func Error(b backend.Binding, op string, err error) error {
	return b.Error("rabbitmq: "+op, kindOf(err), err)
}

func kindOf(err error) error {
	var reply *amqp.Error
	if !errors.As(err, &reply) {
		return nil
	}
	switch reply.Code {
	case amqp.NotFound:
		return backend.ErrNotFound
	case amqp.AccessRefused:
		return backend.ErrAuth
	case amqp.NotAllowed:
		// The virtual host is missing, or not for this user.
		return backend.ErrAuth
	case amqp.PreconditionFailed, amqp.NotImplemented, amqp.CommandInvalid, amqp.SyntaxError:
		return backend.ErrInvalid
	}
	return backend.ErrUnavailable
}

// admin implements Admin on a real broker, over one connection that is opened on demand and a channel for each
// call, because an error closes its channel.
type admin struct {
	binding backend.Binding

	// slot is held while dialing and while accessing the following fields.
	slot   chan struct{}
	conn   *amqp.Connection
	closed bool
}

// New returns a client that connects on the first call. ErrInvalid names the key that the binding lacks.
func New(b backend.Binding) (Admin, error) {
	if err := b.Require("host", "port", "username", "password"); err != nil {
		return nil, err
	}
	if _, err := b.TLSConfig(); err != nil {
		return nil, err
	}
	return &admin{binding: b, slot: make(chan struct{}, 1)}, nil
}

func (a *admin) Close() error {
	a.slot <- struct{}{}
	defer func() { <-a.slot }()
	a.closed = true
	if a.conn == nil || a.conn.IsClosed() {
		return nil
	}
	return a.conn.CloseDeadline(time.Now().Add(dialTimeout))
}

func (a *admin) connection(ctx context.Context) (*amqp.Connection, error) {
	select {
	case a.slot <- struct{}{}:
		defer func() { <-a.slot }()
	case <-ctx.Done():
		return nil, Error(a.binding, "connect", ctx.Err())
	}
	if a.closed {
		return nil, Error(a.binding, "connect", net.ErrClosed)
	}
	if a.conn != nil && !a.conn.IsClosed() {
		return a.conn, nil
	}
	conn, err := Dial(ctx, a.binding)
	a.conn = conn
	return conn, err
}

// do runs a call on a channel of its own. The library ignores the context: a call that outlives it is
// abandoned, and its connection is closed.
func (a *admin) do(ctx context.Context, op string, call func(*amqp.Channel) error) error {
	if err := ctx.Err(); err != nil {
		return Error(a.binding, op, err)
	}
	conn, err := a.connection(ctx)
	if err != nil {
		return err
	}
	result := make(chan error, 1)
	go func() {
		channel, err := conn.Channel()
		if err == nil {
			err = call(channel)
			_ = channel.Close() // an error has already closed it
		}
		result <- err
	}()
	select {
	case err = <-result:
	case <-ctx.Done():
		err = ctx.Err()
		go conn.CloseDeadline(time.Now().Add(time.Second)) //nolint:errcheck // it is abandoned
	}
	return Error(a.binding, op, err)
}

func (a *admin) Ping(ctx context.Context) (string, error) {
	// Opening a channel shows that the broker still responds.
	if err := a.do(ctx, "ping", func(*amqp.Channel) error { return nil }); err != nil {
		return "", err
	}
	conn, err := a.connection(ctx)
	if err != nil {
		return "", err
	}
	version, _ := conn.Properties["version"].(string)
	if version == "" {
		version = "unknown"
	}
	return version, nil
}

func (a *admin) EnsureQueue(ctx context.Context, queue Queue) error {
	table, err := queue.arguments()
	if err != nil {
		return err
	}
	return a.do(ctx, "ensure queue "+queue.Name, func(c *amqp.Channel) error {
		_, err := c.QueueDeclare(queue.Name, queue.Durable, false, false, false, table)
		return exists(err)
	})
}

// exists turns the broker's refusal of a declaration that differs from the existing object into ErrExists.
func exists(err error) error {
	var reply *amqp.Error
	if errors.As(err, &reply) && reply.Code == amqp.PreconditionFailed && strings.Contains(reply.Reason, "inequivalent") {
		return fmt.Errorf("%w with other properties: %s", backend.ErrExists, reply.Reason)
	}
	return err
}

func (a *admin) Queue(ctx context.Context, name string) (Queue, error) {
	queue := Queue{Name: name}
	if err := ValidName(name); err != nil {
		return Queue{}, err
	}
	err := a.do(ctx, "queue "+name, func(c *amqp.Channel) error {
		got, err := c.QueueDeclarePassive(name, false, false, false, false, nil)
		queue.Messages, queue.Consumers = got.Messages, got.Consumers
		return err
	})
	return queue, err
}

func (a *admin) DeleteQueue(ctx context.Context, name string) error {
	if err := ValidName(name); err != nil {
		return err
	}
	return a.do(ctx, "delete queue "+name, func(c *amqp.Channel) error {
		// Deleting a missing queue succeeds, so check first.
		if _, err := c.QueueDeclarePassive(name, false, false, false, false, nil); err != nil {
			return err
		}
		_, err := c.QueueDelete(name, false, false, false)
		return err
	})
}

func (a *admin) EnsureExchange(ctx context.Context, exchange Exchange) error {
	if err := ValidName(exchange.Name); err != nil {
		return err
	}
	table, err := arguments("exchange "+exchange.Name, exchange.Arguments)
	if err != nil {
		return err
	}
	return a.do(ctx, "ensure exchange "+exchange.Name, func(c *amqp.Channel) error {
		return exists(c.ExchangeDeclare(exchange.Name, exchange.kindOf(), exchange.Durable, false, false, false, table))
	})
}

func (a *admin) Exchange(ctx context.Context, name string) error {
	if err := ValidName(name); err != nil {
		return err
	}
	return a.do(ctx, "exchange "+name, func(c *amqp.Channel) error {
		return c.ExchangeDeclarePassive(name, amqp.ExchangeDirect, false, false, false, false, nil)
	})
}

func (a *admin) DeleteExchange(ctx context.Context, name string) error {
	if err := ValidName(name); err != nil {
		return err
	}
	return a.do(ctx, "delete exchange "+name, func(c *amqp.Channel) error {
		if err := c.ExchangeDeclarePassive(name, amqp.ExchangeDirect, false, false, false, false, nil); err != nil {
			return err
		}
		return c.ExchangeDelete(name, false, false)
	})
}

func (a *admin) BindQueue(ctx context.Context, queue, exchange, key string) error {
	return a.do(ctx, "bind queue "+queue+" to "+exchange, func(c *amqp.Channel) error {
		return c.QueueBind(queue, key, exchange, false, nil)
	})
}

func (a *admin) UnbindQueue(ctx context.Context, queue, exchange, key string) error {
	return a.do(ctx, "unbind queue "+queue+" from "+exchange, func(c *amqp.Channel) error {
		return c.QueueUnbind(queue, key, exchange, nil)
	})
}
