// SPDX-License-Identifier: Apache-2.0

// Package product runs a product service on the kit, from its configuration to
// the end of its drain: pools, migrations, audit log, resources, identity, rate
// limits, idempotency and REST. A product adds what only it has.
package product

import (
	"context"
	"io"
	"io/fs"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/internal/audit"
	"github.com/itechsmart/operator/workloads/internal/kinds"
	"github.com/itechsmart/operator/workloads/internal/server"
)

// Product is what only one product has.
type Product struct {
	// Name as in the configuration and in grants; Title is for people.
	Name, Title string
	// Migrations are those of the product's own tables.
	Migrations fs.FS
	// AddToScheme knows Kinds, the resources that are watched, one empty object each.
	AddToScheme func(*runtime.Scheme) error
	Kinds       []client.Object
	// LargeBodies are the routes whose bodies are streams, with their bounds in bytes; may be nil.
	LargeBodies func(*config.Service) map[string]int64
	// OwnIdempotency are the routes ("POST /api/v1/runs") whose handlers see to it themselves that an Idempotency-Key counts
	// once, such as by the key of what they make.
	OwnIdempotency []string
	// OpenRedis connects to a binding.
	OpenRedis func(binding map[string]string) (*redis.Client, error)
	// Assemble makes the service. What runs in the background ends with life; what is opened is given to parts.Closer.
	// An error of the database is tried again, any other ends the process.
	Assemble func(life context.Context, parts *Parts) (Service, error)
}

// Service answers requests.
type Service interface {
	// Register adds all operations.
	Register(huma.API)
	// Collector gives the service's own metrics.
	Collector() prometheus.Collector
}

// Parts are what a product's service is made of.
type Parts struct {
	Config *config.Service
	Pool   *pgxpool.Pool
	Audit  *audit.Log
	// Resources are not watched yet; nil: there is no API server.
	Resources *kinds.Store
	// Kubernetes reaches the API server, for what is no resource of the product; nil: there is none.
	Kubernetes *rest.Config
	Cursors    *api.Cursors
	Log        *slog.Logger
	// Closer registers what to do at the end, the last first.
	Closer func(func())
	// Draining is closed when the service begins to end: what waits or streams for long ends then.
	Draining <-chan struct{}
	// CheckOptional adds a dependency to /health that the service can do without for a while.
	CheckOptional func(name string, check func(context.Context) error)
	// Derive makes a key of 32 bytes for a purpose, the same on every replica.
	Derive func(purpose string) ([]byte, error)
}

// Process is one service, from its configuration to its end.
type Process struct {
	Product Product
	Config  *config.Service
	// Kubernetes reaches the API server; nil: there is none.
	Kubernetes *rest.Config
	// Addr and MetricsAddr are listened at; SpillDir is this process's own.
	Addr, MetricsAddr, SpillDir string
	// Lines takes the audit log's JSON lines; Log the rest. HashCost of passwords is 12 when zero.
	Lines    io.Writer
	Log      *slog.Logger
	HashCost int
	Version  string
	// DrainDelay as in server.Options.
	DrainDelay time.Duration
	// Listening hears of the addresses, when it is not nil.
	Listening func(address, metrics string)

	registry *prometheus.Registry
	server   *server.Server
	started  atomic.Bool
	closers  []func()
}
