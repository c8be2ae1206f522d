// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"os"
	"sync"
	"testing"

	"github.com/itechsmart/operator/internal/backend"
)

// shared is a server that the tests of a test binary share.
type shared struct {
	kind   kind
	once   sync.Once
	server *Server
	err    error
}

var (
	sharedKafka      = &shared{kind: kafkaKind}
	sharedClickHouse = &shared{kind: clickhouseKind}
	sharedPostgres   = &shared{kind: postgresKind}
	sharedRedis      = &shared{kind: redisKind}
	sharedRabbitMQ   = &shared{kind: rabbitmqKind}
	sharedMinIO      = &shared{kind: minioKind}
)

// Kafka returns the shared broker: SASL SCRAM-SHA-512 (and 256), KRaft.
func Kafka(t testing.TB) backend.Binding { t.Helper(); return sharedKafka.get(t) }

// ClickHouse returns the shared server, over HTTP, with database "itechsmart".
func ClickHouse(t testing.TB) backend.Binding { t.Helper(); return sharedClickHouse.get(t) }

// Postgres returns the shared server, as a superuser, with database "itechsmart".
func Postgres(t testing.TB) backend.Binding { t.Helper(); return sharedPostgres.get(t) }

// Redis returns the shared server.
func Redis(t testing.TB) backend.Binding { t.Helper(); return sharedRedis.get(t) }

// RabbitMQ returns the shared broker, virtual host "/"; key management-port of the binding is its management
// HTTP API.
func RabbitMQ(t testing.TB) backend.Binding { t.Helper(); return sharedRabbitMQ.get(t) }

// MinIO returns the shared object store, of type s3, with bucket "itechsmart".
func MinIO(t testing.TB) backend.Binding { t.Helper(); return sharedMinIO.get(t) }

// StartKafka starts a broker of the test's own, stopped when the test ends.
func StartKafka(t testing.TB) *Server { t.Helper(); return own(t, kafkaKind) }

// StartClickHouse starts a server of the test's own, stopped when the test ends.
func StartClickHouse(t testing.TB) *Server { t.Helper(); return own(t, clickhouseKind) }

// StartPostgres starts a server of the test's own, stopped when the test ends.
func StartPostgres(t testing.TB) *Server { t.Helper(); return own(t, postgresKind) }

// StartRedis starts a server of the test's own, stopped when the test ends.
func StartRedis(t testing.TB) *Server { t.Helper(); return own(t, redisKind) }

// StartRabbitMQ starts a broker of the test's own, stopped when the test ends.
func StartRabbitMQ(t testing.TB) *Server { t.Helper(); return own(t, rabbitmqKind) }

// StartMinIO starts an object store of the test's own, stopped when the test ends.
func StartMinIO(t testing.TB) *Server { t.Helper(); return own(t, minioKind) }

// Main runs a package's tests, stops the shared servers and exits. Call it from
// TestMain.
func Main(m *testing.M) {
	code := m.Run()
	Close()
	os.Exit(code)
}

// Close stops the shared servers, for a TestMain with more to do.
func Close() {
	var group sync.WaitGroup
	for _, s := range []*shared{sharedKafka, sharedClickHouse, sharedPostgres, sharedRedis, sharedRabbitMQ, sharedMinIO} {
		if s.server != nil {
			group.Go(s.server.Close)
		}
	}
	group.Wait()
}

func (s *shared) get(t testing.TB) backend.Binding {
	t.Helper()
	skip(t)
	s.once.Do(func() { s.server, s.err = start(s.kind) })
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.server.Binding
}

func own(t testing.TB, k kind) *Server {
	t.Helper()
	skip(t)
	s, err := start(k)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func skip(t testing.TB) {
	t.Helper()
	if os.Getenv("ITECHSMART_SKIP_SERVERS") == "1" {
		t.Skip("ITECHSMART_SKIP_SERVERS=1")
	}
}
