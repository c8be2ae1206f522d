// SPDX-License-Identifier: Apache-2.0

package product

import (
	"context"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/internal/audit"
	"github.com/itechsmart/operator/workloads/internal/auth"
	"github.com/itechsmart/operator/workloads/internal/db"
	"github.com/itechsmart/operator/workloads/internal/identity"
	"github.com/itechsmart/operator/workloads/internal/kinds"
	"github.com/itechsmart/operator/workloads/internal/ratelimit"
	"github.com/itechsmart/operator/workloads/internal/server"
)

const (
	// drainAudit is how long the shutdown waits for the database to store the spilled audit events.
	drainAudit = 10 * time.Second

	firstStart, lastStart = 250 * time.Millisecond, 5 * time.Second
)

// Run serves until ctx ends, then drains. While the database is unavailable, the service is not ready.
func (p *Process) Run(ctx context.Context) error {
	p.registry = prometheus.NewRegistry()
	if err := p.configure(); err != nil {
		return err
	}
	proxies, err := config.Prefixes("trustedProxies", p.Config.TrustedProxies)
	if err != nil {
		return err
	}
	p.server = server.New(server.Options{
		Name: p.Product.Name, Addr: p.Addr, MetricsAddr: p.MetricsAddr, Log: p.Log, Registry: p.registry, Pprof: p.Config.Pprof,
		TrustedProxies: proxies, Tracing: p.Config.Tracing, CORS: p.Config.CORS, DrainDelay: p.DrainDelay,
		LargeBodies: p.largeBodies(),
	})
	pool, err := db.Open(ctx, p.Config.Database, "itechsmart-"+p.Product.Name)
	if err != nil {
		return fmt.Errorf("database: %w", err)
	}
	defer pool.Close()
	users, err := db.Open(ctx, p.Config.Identity, "itechsmart-"+p.Product.Name+"-identity")
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	defer users.Close()
	p.server.Check("database", pool.Ping)
	p.server.Check("identity", users.Ping)
	p.registry.MustRegister(db.NewCollector(pool, "database"), db.NewCollector(users, "identity"))
	p.server.Ready(func() error {
		if !p.started.Load() {
			return errors.New("starting")
		}
		return nil
	})
	address, metrics, err := p.server.Listen()
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if p.Listening != nil {
		p.Listening(address.String(), fmt.Sprint(metrics))
	}

	// The service's dependencies outlive the requests in flight.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		for i := len(p.closers) - 1; i >= 0; i-- {
			p.closers[i]()
		}
	}()
	defer end()
	serve, stop := context.WithCancel(ctx)
	defer stop()
	failed := make(chan error, 1)
	begun := make(chan struct{})
	go func() {
		defer close(begun)
		if err := p.start(serve, life, pool, users); err != nil {
			failed <- err
			stop()
		}
	}()
	err = p.server.Run(serve)
	<-begun
	select {
	case cause := <-failed:
		if ctx.Err() == nil {
			return errors.Join(cause, err)
		}
	default:
	}
	return err
}

// configure decodes the product's own part of the configuration, and logs the keys that have no effect.
func (p *Process) configure() error {
	unknown := p.Unknown
	if p.Product.Configure != nil {
		more, err := p.Product.Configure(p.Config)
		if err != nil {
			return fmt.Errorf("configuration: %w", err)
		}
		unknown = append(slices.Clone(unknown), more...)
	}
	if len(unknown) > 0 {
		p.Log.Warn("the configuration has keys that this version does not know: they have no effect", "keys", unknown, "version", p.Version)
	}
	return nil
}

// start retries while the database is unavailable; any other error ends the process.
func (p *Process) start(ctx, life context.Context, pool, users *pgxpool.Pool) error {
	wait := firstStart
	for {
		err := p.assemble(life, pool, users)
		if err == nil {
			p.started.Store(true)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !db.Unavailable(err) && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		p.Log.Warn("the service cannot start yet", "error", err, "retryAfter", wait)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		wait = min(2*wait, lastStart)
	}
}

// assemble creates the service and mounts it. If it fails, it closes what it opened.
func (p *Process) assemble(life context.Context, pool, users *pgxpool.Pool) (err error) {
	before := len(p.closers)
	defer func() {
		for len(p.closers) > before && err != nil {
			last := len(p.closers) - 1
			p.closers[last]()
			p.closers = p.closers[:last]
		}
	}()
	for _, migrations := range []fs.FS{p.Product.Migrations, api.Migrations} {
		if err := db.Migrate(life, pool, migrations, p.Log); err != nil {
			return err
		}
	}
	log, err := p.openAudit(life, pool)
	if err != nil {
		return err
	}
	resources, reviewer, err := p.openResources(life)
	if err != nil {
		return err
	}
	id, err := identity.New(life, users, p.Config.Auth, log, identity.Options{
		Product: p.Product.Name, Namespace: p.Config.Namespace, Reviewer: reviewer, Log: p.Log, HashCost: p.HashCost,
	})
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	p.closer(id.Close)
	key, err := p.derive("cursors")
	if err != nil {
		return err
	}
	s, err := p.Product.Assemble(life, &Parts{
		product: p.Product.Name, Config: p.Config, Pool: pool, Audit: log, Resources: resources, Kubernetes: p.Kubernetes,
		Cursors: api.NewCursors(key), Log: p.Log, Closer: p.closer, Derive: p.derive,
		Draining: p.server.Draining(), CheckOptional: p.server.CheckOptional,
	})
	if err != nil {
		return err
	}
	return p.mount(life, s, id, pool)
}

func (p *Process) closer(do func()) { p.closers = append(p.closers, do) }

func (p *Process) largeBodies() map[string]int64 {
	if p.Product.LargeBodies == nil {
		return nil
	}
	return p.Product.LargeBodies()
}

// openAudit opens the log, and registers its closing.
func (p *Process) openAudit(life context.Context, pool *pgxpool.Pool) (*audit.Log, error) {
	key, err := p.auditKey()
	if err != nil {
		return nil, err
	}
	log, err := audit.Open(life, pool, audit.Options{
		Product: p.Product.Name, Key: key, Retention: p.Config.Audit.Retention.Or(0), SpillDir: p.SpillDir, SpillBytes: p.Config.Audit.SpillBytes,
		Lines: p.Lines, Log: p.Log,
	})
	if err != nil {
		return nil, err
	}
	if err := p.registry.Register(log); err != nil {
		return nil, err
	}
	p.closer(func() {
		p.registry.Unregister(log)
		ctx, cancel := context.WithTimeout(context.Background(), drainAudit)
		defer cancel()
		if err := log.Close(ctx); err != nil {
			p.Log.Warn("audit events stay in the spill", "error", err)
		}
	})
	return log, nil
}

// auditKey returns the configured key, or one derived from the token key.
func (p *Process) auditKey() (ed25519.PrivateKey, error) {
	seed, err := base64.StdEncoding.DecodeString(p.Config.Audit.Key)
	if p.Config.Audit.Key == "" {
		seed, err = p.derive("audit")
	}
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, errors.New("configuration: audit.key is not the base64 of 32 bytes")
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// derive derives a key of 32 bytes, the same on every replica.
func (p *Process) derive(purpose string) ([]byte, error) {
	keys := p.Config.Auth.Keys
	if len(keys) == 0 || len(keys[0].Secret) < 32 {
		return nil, errors.New("configuration: auth.keys has no key")
	}
	return hkdf.Key(sha256.New, []byte(keys[0].Secret), []byte(p.Config.Namespace+"/"+p.Config.Platform), "itechsmart "+p.Product.Name+" "+purpose, 32)
}

// openResources starts watching the product's kinds, and prepares the review of tokens. Without an API server there is
// neither.
func (p *Process) openResources(life context.Context) (*kinds.Store, identity.TokenReviewer, error) {
	if p.Kubernetes == nil {
		return nil, nil, nil
	}
	scheme := runtime.NewScheme()
	if err := p.Product.AddToScheme(scheme); err != nil {
		return nil, nil, err
	}
	watch, err := kinds.Open(life, kinds.Options{
		Config: p.Kubernetes, Scheme: scheme, Namespace: p.Config.Namespace, Log: p.Log,
		Kinds: p.Product.Kinds,
	})
	if err != nil {
		return nil, nil, err
	}
	reviewer, err := kinds.NewReviewer(p.Kubernetes)
	if err != nil {
		return nil, nil, err
	}
	running, stop := context.WithCancel(life)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := watch.Run(running); err != nil && running.Err() == nil {
			p.Log.Error("the resources are no longer watched", "error", err)
		}
	}()
	p.closer(func() {
		stop()
		<-done
	})
	return watch, reviewer, nil
}

// mount mounts the whole chain of handlers.
func (p *Process) mount(life context.Context, s Service, id *identity.Service, pool *pgxpool.Pool) error {
	shared, err := p.redis()
	if err != nil {
		return err
	}
	limits, err := ratelimit.New(shared, p.Config.RateLimit, ratelimit.Options{
		Prefix: "itechsmart/" + p.Config.Namespace + "/" + p.Config.Platform + "/" + p.Product.Name, Log: p.Log, Registry: p.registry,
		Exempt: func(c *auth.Principal) bool {
			return c.Kind == auth.KindServiceAccount && c.RoleOn(p.Product.Name, p.Config.Namespace) == auth.RoleAdmin
		},
	})
	if err != nil {
		return err
	}
	key, err := p.derive("idempotency")
	if err != nil {
		return err
	}
	answers := api.NewPostgresStore(pool)
	own := http.NewServeMux()
	for _, pattern := range p.Product.OwnIdempotency {
		own.Handle(pattern, http.NotFoundHandler())
	}
	except := func(r *http.Request) bool { _, pattern := own.Handler(r); return pattern != "" }
	once, err := api.Idempotency(answers, api.IdempotencyOptions{Key: key, Log: p.Log, Except: except, Owner: func(ctx context.Context) string {
		if c := auth.From(ctx); c != nil {
			return string(c.Kind) + "/" + c.ID
		}
		return ""
	}})
	if err != nil {
		return err
	}
	go answers.Run(life, time.Hour, p.Log)
	mux := http.NewServeMux()
	spec := api.New(mux, "iTechSmart "+p.Product.Title, p.Version)
	spec.UseMiddleware(api.KeepUserAgent)
	id.Register(spec, mux)
	s.Register(spec)
	if err := p.registry.Register(s.Collector()); err != nil {
		return err
	}
	p.server.Mount(auth.Middleware(id, identity.Anonymous...)(limits.Middleware(once(server.Routes(mux)))))
	return nil
}

// redis connects to the configured cache; nil: there is none.
func (p *Process) redis() (*redis.Client, error) {
	if len(p.Config.Redis) == 0 {
		return nil, nil
	}
	c, err := ratelimit.OpenRedis(p.Config.Redis)
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	p.server.CheckOptional("redis", func(ctx context.Context) error { return c.Ping(ctx).Err() })
	p.closer(func() { _ = c.Close() })
	return c, nil
}
