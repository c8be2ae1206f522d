// SPDX-License-Identifier: Apache-2.0

// Package product runs a product service on the kit, from its configuration to the end of its drain: pools, migrations,
// audit log, resources, identity, rate limits, idempotency and REST. A product adds its own part.
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
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/internal/audit"
	"github.com/itechsmart/operator/workloads/internal/auditlog"
	"github.com/itechsmart/operator/workloads/internal/kinds"
	"github.com/itechsmart/operator/workloads/internal/server"
)

// Product is a product's own part.
type Product struct {
	// Name in the configuration and in grants; Title is for people.
	Name, Title string
	// Migrations of the product's own tables.
	Migrations fs.FS
	// AddToScheme registers Kinds, the resources to watch, one empty object each.
	AddToScheme func(*runtime.Scheme) error
	Kinds       []client.Object
	// Configure decodes the product's own part of the configuration (config.Settings), and returns unknown keys. It is
	// called before LargeBodies and Assemble; nil: there is no such part.
	Configure func(*config.Service) (unknown []string, err error)
	// LargeBodies returns the routes whose bodies are streams, with their limits in bytes; may be nil.
	LargeBodies func() map[string]int64
	// OwnIdempotency lists the routes ("POST /api/v1/runs") whose handlers implement Idempotency-Key themselves, such as
	// by the key of what they create.
	OwnIdempotency []string
	// Assemble creates the service. Its background work ends with life; parts.Closer registers what to close. If the
	// database is unavailable, it is called again; any other error ends the process.
	Assemble func(life context.Context, parts *Parts) (Service, error)
}

// Service answers requests.
type Service interface {
	// Register adds all operations.
	Register(huma.API)
	// Collector returns the service's own metrics.
	Collector() prometheus.Collector
}

// Parts are the parts of the kit for a product's service.
type Parts struct {
	Config *config.Service
	Pool   *pgxpool.Pool
	Audit  *audit.Log
	// Resources of the product's kinds; nil: there is no API server.
	Resources *kinds.Store
	// Kubernetes connects to the API server, for resources of other kinds; nil: there is none.
	Kubernetes *rest.Config
	Cursors    *api.Cursors
	Log        *slog.Logger
	// Closer registers what to do at the end, in reverse order.
	Closer func(func())
	// Draining is closed when the drain begins: long waits and streams must end then.
	Draining <-chan struct{}
	// CheckOptional adds a dependency to /health without which the service still serves.
	CheckOptional func(name string, check func(context.Context) error)
	// Derive derives a key of 32 bytes for a purpose, the same on every replica.
	Derive func(purpose string) ([]byte, error)

	product string
}

// Trail returns the recorder of the product's operations, whose errors become responses by answer.
func (p *Parts) Trail(answer func(error) error) *auditlog.Trail {
	return &auditlog.Trail{
		Product: p.product, Namespace: p.Config.Namespace, Log: p.Audit, Cursors: p.Cursors, Logger: p.Log, Answer: answer,
	}
}

// syncTimeout is how long a start waits for the API server before the service starts without its resources.
const syncTimeout = 10 * time.Second

// AwaitResources waits with seen, for a limited time, until the resources are known. If the API server does not respond
// in time, it logs what that means for callers. It returns an error only if life has ended.
func (p *Parts) AwaitResources(life context.Context, seen func(context.Context) bool, meanwhile string) error {
	limited, cancel := context.WithTimeout(life, syncTimeout)
	defer cancel()
	if !seen(limited) && life.Err() == nil {
		p.Log.Warn("the API server does not respond: starting without the resources", "meanwhile", meanwhile)
	}
	return life.Err()
}

// Process is one run of a service, from its configuration to its end.
type Process struct {
	Product Product
	Config  *config.Service
	// Unknown lists the keys in the configuration file that this version does not know.
	Unknown []string
	// Kubernetes connects to the API server; nil: there is none.
	Kubernetes *rest.Config
	// Addr and MetricsAddr are the addresses to listen on; SpillDir is this process's own.
	Addr, MetricsAddr, SpillDir string
	// Lines receives the audit log's JSON lines, Log everything else. HashCost of passwords is 12 if zero.
	Lines    io.Writer
	Log      *slog.Logger
	HashCost int
	Version  string
	// DrainDelay as in server.Options.
	DrainDelay time.Duration
	// Listening is called with the addresses; may be nil.
	Listening func(address, metrics string)

	registry *prometheus.Registry
	server   *server.Server
	started  atomic.Bool
	closers  []func()
}
