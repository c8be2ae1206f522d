// SPDX-License-Identifier: Apache-2.0

package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/internal/backend/kafka"
)

func TestMain(m *testing.M) { servers.Main(m) }

func open(t testing.TB, b backend.Binding) kafka.Admin {
	t.Helper()
	admin, err := kafka.New(b)
	if err != nil {
		t.Fatal(err)
	}
	return admin
}

func TestFake(t *testing.T) {
	fake := kafka.NewFake()
	backendtest.Kafka(t, func(testing.TB) kafka.Admin { return fake },
		func(_ testing.TB, topic string, n int) { fake.Produce(topic, int64(n)) })
}

func TestFakeFails(t *testing.T) {
	fake := kafka.NewFake()
	fake.Fail("Ping", backend.ErrAuth)
	if _, err := fake.Ping(t.Context()); !errors.Is(err, backend.ErrAuth) {
		t.Errorf("got %v, want the injected error", err)
	}
	fake.Fail("Ping", nil)
	if _, err := fake.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if got := fake.Calls("Ping"); got != 2 {
		t.Errorf("counted %d calls, want 2", got)
	}
}

func TestReal(t *testing.T) {
	b := servers.Kafka(t)
	backendtest.Kafka(t, func(t testing.TB) kafka.Admin { return open(t, b) },
		func(t testing.TB, topic string, n int) { produce(t, b, topic, n) })
}

// produce writes n records through the connectors' transport.
func produce(t testing.TB, b backend.Binding, topic string, n int) {
	t.Helper()
	transport, err := kafka.Transport(b)
	if err != nil {
		t.Fatal(err)
	}
	defer transport.CloseIdleConnections()
	writer := &kafkago.Writer{
		Addr: kafka.Addr(b), Topic: topic, Transport: transport,
		RequiredAcks: kafkago.RequireAll, BatchTimeout: time.Millisecond,
	}
	messages := make([]kafkago.Message, n)
	for i := range messages {
		messages[i].Value = []byte(fmt.Sprint(i))
	}
	if err := errors.Join(writer.WriteMessages(backendtest.Context(t), messages...), writer.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestReader reads through the connectors' dialer.
func TestReader(t *testing.T) {
	b := servers.Kafka(t)
	ctx := backendtest.Context(t)
	topic := kafka.Topic{Name: backendtest.Name("read"), Partitions: 1}
	admin := open(t, b)
	if err := admin.CreateTopic(ctx, topic); err != nil {
		t.Fatal(err)
	}
	produce(t, b, topic.Name, 3)
	dialer, err := kafka.Dialer(b)
	if err != nil {
		t.Fatal(err)
	}
	reader := kafkago.NewReader(kafkago.ReaderConfig{
		Brokers: b.Brokers(), Topic: topic.Name, GroupID: backendtest.Name("group"), Dialer: dialer,
		StartOffset: kafkago.FirstOffset, MaxWait: 100 * time.Millisecond,
	})
	defer reader.Close() //nolint:errcheck // the test is over
	for i := range 3 {
		message, err := reader.ReadMessage(ctx)
		if err != nil || string(message.Value) != fmt.Sprint(i) {
			t.Fatalf("read %q, %v, want %d", message.Value, err, i)
		}
	}
	// A group with members cannot be reset.
	if err := admin.ResetGroup(ctx, reader.Config().GroupID, topic.Name, kafka.Earliest); !errors.Is(err, backend.ErrInvalid) {
		t.Errorf("got %v, want ErrInvalid", err)
	}
	if lag, err := admin.GroupLag(ctx, reader.Config().GroupID, topic.Name); err != nil || lag != 0 {
		t.Errorf("lag %d, %v, want 0", lag, err)
	}
}

func TestMechanisms(t *testing.T) {
	b := servers.Kafka(t)
	for _, test := range []struct {
		name, mechanism, password string
		want                      error
	}{
		{"512", "SCRAM-SHA-512", b.Password, nil},
		{"256", "SCRAM-SHA-256", b.Password, nil},
		{"wrong password", "SCRAM-SHA-512", "wrong-" + b.Password, backend.ErrAuth},
		{"not enabled", "PLAIN", b.Password, backend.ErrAuth},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := b
			b.SASLMechanism, b.Password = test.mechanism, test.password
			admin := open(t, b)
			defer admin.Close() //nolint:errcheck // it never fails
			_, err := admin.Ping(backendtest.Context(t))
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), b.Password) {
				t.Error("the error contains the password")
			}
		})
	}
}

func TestSilent(t *testing.T) {
	backendtest.Silent(t, backend.Binding{}, kafka.New)
}

func TestEncrypted(t *testing.T) {
	b := servers.Kafka(t)
	backendtest.Encrypted(t, servers.TLS(t, b), servers.TLS(t, b).CA, kafka.New)
}

// TestOutage kills the broker under an open client.
func TestOutage(t *testing.T) {
	server := servers.StartKafka(t)
	admin := open(t, server.Binding)
	defer admin.Close() //nolint:errcheck // it never fails
	ctx := backendtest.Context(t)
	topic := kafka.Topic{Name: backendtest.Name("kept"), Partitions: 2}
	if err := admin.CreateTopic(ctx, topic); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	short, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if _, err := admin.Ping(short); !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	server.Restart(t)
	ctx = backendtest.Context(t)
	got, err := admin.Topic(ctx, topic.Name)
	if err != nil || got.Partitions != 2 {
		t.Errorf("after the restart: %+v, %v", got, err)
	}
}

func TestNew(t *testing.T) {
	good := backend.Binding{BootstrapServers: "h:1", Username: "u", Password: "p"}
	for _, test := range []struct {
		name   string
		change func(*backend.Binding)
		names  string
	}{
		{"no servers", func(b *backend.Binding) { b.BootstrapServers = "" }, "bootstrap-servers"},
		{"no port", func(b *backend.Binding) { b.BootstrapServers = "h" }, "bootstrap-servers"},
		{"mechanism", func(b *backend.Binding) { b.SASLMechanism = "GSSAPI" }, "sasl-mechanism"},
		{"no user", func(b *backend.Binding) { b.SASLMechanism, b.Username = "PLAIN", "" }, "username"},
		{"no password", func(b *backend.Binding) { b.SASLMechanism, b.Password = "SCRAM-SHA-512", "" }, "password"},
		{"tls", func(b *backend.Binding) { b.TLS = "yes" }, "tls"},
		{"ca", func(b *backend.Binding) { b.TLS, b.CA = "true", "no pem" }, "ca.crt"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := good
			test.change(&b)
			_, err := kafka.New(b)
			if !errors.Is(err, backend.ErrInvalid) || !strings.Contains(err.Error(), test.names) {
				t.Errorf("got %v, want ErrInvalid naming %s", err, test.names)
			}
		})
	}
}

func TestValidTopic(t *testing.T) {
	for name, valid := range map[string]bool{
		"a": true, "orders.v1_x-Y": true, strings.Repeat("a", 249): true,
		"": false, ".": false, "..": false, "a/b": false, "ä": false, "a b": false, strings.Repeat("a", 250): false,
	} {
		if err := kafka.ValidTopic(name); (err == nil) != valid {
			t.Errorf("%q: %v", name, err)
		} else if err != nil && !errors.Is(err, backend.ErrInvalid) {
			t.Errorf("%q: %v, want ErrInvalid", name, err)
		}
	}
}
