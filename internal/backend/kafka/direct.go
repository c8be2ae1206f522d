// SPDX-License-Identifier: Apache-2.0

package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/apiversions"
	"github.com/segmentio/kafka-go/protocol/saslauthenticate"
	"github.com/segmentio/kafka-go/protocol/saslhandshake"
	"github.com/segmentio/kafka-go/sasl"
)

// direct keeps a few connections to any of the bootstrap brokers. kafka-go's Transport serves metadata from a
// cache of seconds, polls all topics for it and does not return login errors; drift detection and probes need
// the broker's current state. It is a kafkago.RoundTripper for requests that any broker answers or forwards to
// the controller.
type direct struct {
	brokers []string
	dialer  *kafkago.Dialer
	slots   chan struct{} // limits the connections

	mu     sync.Mutex
	idle   []idleConn
	closed bool
}

type idleConn struct {
	*protocol.Conn
	since time.Time
}

const (
	maxConns = 8
	// maxIdle is well below the ten minutes after which a broker closes the connection.
	maxIdle = time.Minute
)

func newDirect(brokers []string, dialer *kafkago.Dialer) *direct {
	return &direct{brokers: brokers, dialer: dialer, slots: make(chan struct{}, maxConns)}
}

// RoundTrip implements kafkago.RoundTripper; the address is the binding's own. A read that fails on a used
// connection is retried on a new one, because the broker may have restarted.
func (d *direct) RoundTrip(ctx context.Context, _ net.Addr, request protocol.Message) (protocol.Message, error) {
	select {
	case d.slots <- struct{}{}:
		defer func() { <-d.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	conn, used, err := d.take(ctx)
	if err != nil {
		return nil, err
	}
	response, err := exchange(ctx, conn, request)
	if err != nil && used && readOnly(request) && ctx.Err() == nil {
		d.drop(conn)
		if conn, err = d.connect(ctx); err != nil {
			return nil, err
		}
		response, err = exchange(ctx, conn, request)
	}
	if err != nil {
		d.drop(conn)
		return nil, errors.Join(ctx.Err(), err)
	}
	d.put(conn)
	return response, nil
}

func readOnly(request protocol.Message) bool {
	switch request.ApiKey() {
	case protocol.Metadata, protocol.DescribeConfigs, protocol.ApiVersions:
		return true
	}
	return false
}

// take returns a used connection or a new one.
func (d *direct) take(ctx context.Context) (conn *protocol.Conn, used bool, err error) {
	d.mu.Lock()
	for len(d.idle) > 0 && conn == nil {
		last := d.idle[len(d.idle)-1]
		d.idle = d.idle[:len(d.idle)-1]
		if time.Since(last.since) > maxIdle {
			_ = last.Close()
			continue
		}
		conn = last.Conn
	}
	closed := d.closed
	d.mu.Unlock()
	if closed {
		return nil, false, net.ErrClosed
	}
	if conn != nil {
		return conn, true, nil
	}
	conn, err = d.connect(ctx)
	return conn, false, err
}

func (d *direct) put(conn *protocol.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		_ = conn.Close()
		return
	}
	d.idle = append(d.idle, idleConn{Conn: conn, since: time.Now()})
}

// drop closes a broken connection and all idle ones, whose broker may be gone too.
func (d *direct) drop(conn *protocol.Conn) {
	_ = conn.Close()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closeIdle()
}

func (d *direct) closeIdle() {
	for _, conn := range d.idle {
		_ = conn.Close()
	}
	d.idle = nil
}

// close closes the connections; those in use are closed when they are returned.
func (d *direct) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.closeIdle()
}

// exchange does one round trip within the context.
func exchange(ctx context.Context, conn *protocol.Conn, request protocol.Message) (protocol.Message, error) {
	deadline, _ := ctx.Deadline() // zero: none
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	// The end of the context interrupts the read.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	return conn.RoundTrip(request)
}

// connect connects to the first of the brokers, in random order, that accepts.
func (d *direct) connect(ctx context.Context) (*protocol.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var all error
	for _, i := range rand.Perm(len(d.brokers)) {
		conn, err := d.login(ctx, d.brokers[i])
		if err == nil {
			return conn, nil
		}
		all = errors.Join(all, fmt.Errorf("broker %s: %w", d.brokers[i], err))
	}
	return nil, all
}

func (d *direct) login(ctx context.Context, broker string) (*protocol.Conn, error) {
	network, err := (&net.Dialer{}).DialContext(ctx, "tcp", broker)
	if err != nil {
		return nil, err
	}
	if d.dialer.TLS != nil {
		config := d.dialer.TLS.Clone()
		if config.ServerName == "" {
			config.ServerName, _, _ = net.SplitHostPort(broker)
		}
		network = tls.Client(network, config)
	}
	conn := protocol.NewConn(network, clientID)
	err = negotiate(ctx, conn)
	if err == nil && d.dialer.SASLMechanism != nil {
		err = authenticate(ctx, conn, broker, d.dialer.SASLMechanism)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// negotiate agrees on the version of every request.
func negotiate(ctx context.Context, conn *protocol.Conn) error {
	message, err := exchange(ctx, conn, &apiversions.Request{})
	if err != nil {
		return err
	}
	response := message.(*apiversions.Response)
	if response.ErrorCode != 0 {
		return kafkago.Error(response.ErrorCode)
	}
	versions := map[protocol.ApiKey]int16{}
	for _, api := range response.ApiKeys {
		key := protocol.ApiKey(api.ApiKey)
		versions[key] = key.SelectVersion(api.MinVersion, api.MaxVersion)
	}
	conn.SetVersions(versions)
	return nil
}

func authenticate(ctx context.Context, conn *protocol.Conn, broker string, mechanism sasl.Mechanism) error {
	message, err := exchange(ctx, conn, &saslhandshake.Request{Mechanism: mechanism.Name()})
	if err != nil {
		return err
	}
	if code := message.(*saslhandshake.Response).ErrorCode; code != 0 {
		return kafkago.Error(code)
	}
	host, _, _ := net.SplitHostPort(broker)
	ctx = sasl.WithMetadata(ctx, &sasl.Metadata{Host: host})
	session, state, err := mechanism.Start(ctx)
	for done := false; err == nil && !done; {
		message, err = exchange(ctx, conn, &saslauthenticate.Request{AuthBytes: state})
		if errors.Is(err, io.EOF) && ctx.Err() == nil {
			// Old brokers refuse by closing the connection.
			return kafkago.SASLAuthenticationFailed
		}
		if err != nil {
			return err
		}
		response := message.(*saslauthenticate.Response)
		if response.ErrorCode != 0 {
			return kafkago.Error(response.ErrorCode)
		}
		done, state, err = session.Next(ctx, response.AuthBytes)
	}
	if err != nil {
		// The server's proof did not match: it does not know the password either.
		return kafkago.SASLAuthenticationFailed
	}
	return nil
}
