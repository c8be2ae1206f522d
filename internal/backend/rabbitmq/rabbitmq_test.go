// SPDX-License-Identifier: Apache-2.0

package rabbitmq_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/internal/backend/rabbitmq"
)

func TestMain(m *testing.M) { servers.Main(m) }

func open(t testing.TB, b backend.Binding) rabbitmq.Admin {
	t.Helper()
	admin, err := rabbitmq.New(b)
	if err != nil {
		t.Fatal(err)
	}
	return admin
}

func TestFake(t *testing.T) {
	fake := rabbitmq.NewFake()
	backendtest.RabbitMQ(t, func(testing.TB) rabbitmq.Admin { return fake },
		func(_ testing.TB, queue string, n int) { fake.SetMessages(queue, n) })
}

func TestReal(t *testing.T) {
	b := servers.RabbitMQ(t)
	backendtest.RabbitMQ(t, func(t testing.TB) rabbitmq.Admin { return open(t, b) },
		func(t testing.TB, queue string, n int) { publish(t, b, queue, n) })
}

// publish sends n messages over the connectors' connection, and waits until the broker has confirmed and
// counted them.
func publish(t testing.TB, b backend.Binding, queue string, n int) {
	t.Helper()
	ctx := backendtest.Context(t)
	conn, err := rabbitmq.Dial(ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // confirmed before
	channel, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	if err := channel.Confirm(false); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		confirmation, err := channel.PublishWithDeferredConfirmWithContext(ctx, "", queue, false, false, amqp.Publishing{Body: []byte(strconv.Itoa(i))})
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := confirmation.WaitContext(ctx); !ok || err != nil {
			t.Fatalf("message %d: confirmed %t, %v", i, ok, err)
		}
	}
	// A quorum queue counts a little later than it confirms.
	for {
		got, err := channel.QueueDeclarePassive(queue, false, false, false, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got.Messages == n {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("queue has %d messages, want %d", got.Messages, n)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func TestRefused(t *testing.T) {
	good := servers.RabbitMQ(t)
	for _, test := range []struct {
		name   string
		change func(*backend.Binding)
		want   error
	}{
		{"wrong password", func(b *backend.Binding) { b.Password = "wrong-" + b.Password }, backend.ErrAuth},
		{"unknown user", func(b *backend.Binding) { b.Username = "nobody" }, backend.ErrAuth},
		{"no such virtual host", func(b *backend.Binding) { b.Extra = map[string]string{"virtual-host": "none"} }, backend.ErrAuth},
		{"connection refused", func(b *backend.Binding) { b.Port = "1" }, backend.ErrUnavailable},
		{"another protocol", func(b *backend.Binding) { b.Port = b.Extra["management-port"] }, backend.ErrUnavailable},
		{"tls on a plain port", func(b *backend.Binding) { b.TLS = "true" }, backend.ErrUnavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := good
			test.change(&b)
			_, err := open(t, b).Ping(backendtest.Context(t))
			if !errors.Is(err, test.want) {
				t.Fatalf("got %v, want %v", err, test.want)
			}
			if strings.Contains(err.Error(), good.Password) {
				t.Error("the error contains the password")
			}
		})
	}
}

func TestSilent(t *testing.T) {
	backendtest.Silent(t, backend.Binding{Username: "user", Password: "password"}, rabbitmq.New)
}

func TestEncrypted(t *testing.T) {
	b := servers.RabbitMQ(t)
	backendtest.Encrypted(t, servers.TLS(t, b), servers.TLS(t, b).CA, rabbitmq.New)
}

func TestOutage(t *testing.T) {
	server := servers.StartRabbitMQ(t)
	admin := open(t, server.Binding)
	defer admin.Close() //nolint:errcheck // it never fails
	ctx := backendtest.Context(t)
	queue := rabbitmq.Queue{Name: backendtest.Name("kept"), Durable: true, Type: "quorum"}
	if err := admin.EnsureQueue(ctx, queue); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	short, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if _, err := admin.Ping(short); !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	server.Restart(t)
	ctx = backendtest.Context(t)
	if err := admin.EnsureQueue(ctx, queue); err != nil {
		t.Error(err)
	}
}

func TestNew(t *testing.T) {
	for name, b := range map[string]backend.Binding{
		"host":     {Port: "1", Username: "u", Password: "p"},
		"port":     {Host: "h", Username: "u", Password: "p"},
		"username": {Host: "h", Port: "1", Password: "p"},
		"password": {Host: "h", Port: "1", Username: "u"},
		"tls":      {Host: "h", Port: "1", Username: "u", Password: "p", TLS: "maybe"},
	} {
		if _, err := rabbitmq.New(b); !errors.Is(err, backend.ErrInvalid) || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want ErrInvalid naming %s", err, name)
		}
	}
}
