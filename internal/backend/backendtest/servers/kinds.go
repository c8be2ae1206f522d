// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/clickhouse"
	"github.com/itechsmart/operator/internal/backend/kafka"
	"github.com/itechsmart/operator/internal/backend/postgres"
	"github.com/itechsmart/operator/internal/backend/rabbitmq"
	"github.com/itechsmart/operator/internal/backend/redis"
	"github.com/itechsmart/operator/internal/backend/s3"
)

// kind holds what differs between systems.
type kind struct {
	name string // as known to the serve script
	stop syscall.Signal
	// command returns the command to run; nil: the serve script runs it.
	command func(root, data string, port int) (*exec.Cmd, error)
	binding func(port int, password string) backend.Binding
	env     func(backend.Binding) []string
	ping    func(context.Context, backend.Binding) error
}

func binding(system string, port int, password string) backend.Binding {
	return backend.Binding{
		Type: system, Provider: "managed", Host: "127.0.0.1", Port: strconv.Itoa(port),
		Username: user, Password: password,
	}
}

// pinger is implemented by every admin client.
type pinger interface {
	Ping(context.Context) (string, error)
	Close() error
}

func ping[A pinger](open func(backend.Binding) (A, error)) func(context.Context, backend.Binding) error {
	return func(ctx context.Context, b backend.Binding) error {
		admin, err := open(b)
		if err != nil {
			return err
		}
		_, err = admin.Ping(ctx)
		return errors.Join(err, admin.Close())
	}
}

var kafkaKind = kind{
	name: "kafka",
	stop: syscall.SIGTERM,
	binding: func(port int, password string) backend.Binding {
		b := binding("kafka", port, password)
		b.BootstrapServers = b.Address()
		b.SASLMechanism = "SCRAM-SHA-512"
		return b
	},
	env: func(b backend.Binding) []string {
		return []string{"KAFKA_USER=" + b.Username, "KAFKA_PASSWORD=" + b.Password, "KAFKA_HEAP_OPTS=-Xmx512m -Xms256m"}
	},
	ping: ping(kafka.New),
}

var clickhouseKind = kind{
	name: "clickhouse",
	stop: syscall.SIGTERM,
	binding: func(port int, password string) backend.Binding {
		b := binding("clickhouse", port, password)
		b.Database = database
		return b
	},
	env: func(b backend.Binding) []string {
		return []string{"CLICKHOUSE_USER=" + b.Username, "CLICKHOUSE_PASSWORD=" + b.Password, "CLICKHOUSE_DB=" + b.Database}
	},
	ping: ping(clickhouse.New),
}

var postgresKind = kind{
	name: "postgres",
	stop: syscall.SIGINT, // fast: SIGTERM would wait for clients
	binding: func(port int, password string) backend.Binding {
		b := binding("postgresql", port, password)
		b.Database = database
		return b
	},
	env: func(b backend.Binding) []string {
		return []string{"POSTGRES_USER=" + b.Username, "POSTGRES_PASSWORD=" + b.Password, "POSTGRES_DB=" + b.Database}
	},
	ping: ping(postgres.New),
}

var redisKind = kind{
	name: "redis",
	stop: syscall.SIGTERM,
	binding: func(port int, password string) backend.Binding {
		b := binding("redis", port, password)
		b.Username = "" // requirepass: the default user
		return b
	},
	env:  func(b backend.Binding) []string { return []string{"REDIS_PASSWORD=" + b.Password} },
	ping: ping(redis.New),
}

var rabbitmqKind = kind{
	name: "rabbitmq",
	stop: syscall.SIGTERM,
	binding: func(port int, password string) backend.Binding {
		b := binding("rabbitmq", port, password)
		b.Extra = map[string]string{"management-port": strconv.Itoa(port + 1)}
		return b
	},
	env: func(b backend.Binding) []string {
		return []string{"RABBITMQ_DEFAULT_USER=" + b.Username, "RABBITMQ_DEFAULT_PASS=" + b.Password}
	},
	ping: ping(rabbitmq.New),
}

// minioKind is an S3 object store, with a bucket named database.
var minioKind = kind{
	name: "minio",
	stop: syscall.SIGTERM,
	command: func(root, data string, port int) (*exec.Cmd, error) {
		path := filepath.Join(root, ".local", "bin", "minio")
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("%s is missing: run hack/tools/minio.sh to build it, or set ITECHSMART_SKIP_SERVERS=1 to skip these tests", filepath.Join(".local", "bin", "minio"))
		}
		return exec.Command(path, "server", data, "--address", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))), nil
	},
	binding: func(port int, password string) backend.Binding {
		b := binding("s3", port, password)
		b.Extra = map[string]string{s3.KeyBucket: database}
		return b
	},
	env: func(b backend.Binding) []string {
		return []string{"MINIO_ROOT_USER=" + b.Username, "MINIO_ROOT_PASSWORD=" + b.Password, "MINIO_BROWSER=off", "CI=true"}
	},
	ping: func(ctx context.Context, b backend.Binding) error {
		if err := makeBucket(ctx, b); err != nil {
			return err
		}
		return ping(s3.Open)(ctx, b)
	},
}

var errMissing = errors.New("run `make servers` to install the test servers, or set ITECHSMART_SKIP_SERVERS=1 to skip these tests")

// checkout returns the directory of the go.mod above the working directory.
func checkout() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("found no go.mod above the working directory")
		}
		dir = parent
	}
}

// serve returns the command of the script that runs any server.
func (k kind) serve(root, data string, port int) (*exec.Cmd, error) {
	if k.command != nil {
		return k.command(root, data, port)
	}
	script := filepath.Join(root, ".local", "servers", "serve")
	if _, err := os.Stat(script); err != nil {
		return nil, fmt.Errorf("%s is missing: %w", filepath.Join(".local", "servers", "serve"), errMissing)
	}
	return exec.Command(script, k.name, data, strconv.Itoa(port)), nil
}
