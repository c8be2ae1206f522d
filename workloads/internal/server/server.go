// SPDX-License-Identifier: Apache-2.0

// Package server runs a product service's HTTP server: its life cycle, health,
// metrics, logs, traces, and the limits that hold for every request.
//
//	s := server.New(server.Options{Name: "echo", Addr: ":8080", MetricsAddr: ":9090", Log: log})
//	s.Check("database", pool.Ping)
//	s.Mount(auth.Middleware(identity)(limits.Middleware(server.Routes(mux))), mux)
//	err := s.Run(ctx) // until ctx ends, then in order
package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/itechsmart/operator/workloads/config"
)

// What holds when Options say nothing.
const (
	DefaultDrainDelay   = 5 * time.Second
	DefaultDrainTimeout = 20 * time.Second
	DefaultMaxBodyBytes = 2 << 20
	DefaultCheckEvery   = 5 * time.Second
	DefaultReadHeader   = 5 * time.Second
	DefaultRead         = 60 * time.Second
	DefaultWrite        = 60 * time.Second

	idleTimeout = 120 * time.Second
	maxHeader   = 32 << 10
)

// Options configure a server. All but the name and the address have defaults.
type Options struct {
	// Name is the product's: the service's name in traces.
	Name string
	// Addr serves requests, MetricsAddr /metrics and pprof; empty: no metrics.
	Addr, MetricsAddr string
	Log               *slog.Logger
	// Registry holds the metrics; Go's and the process's are added.
	Registry *prometheus.Registry
	// Pprof serves /debug/pprof beside the metrics.
	Pprof bool
	// DrainDelay is how long the server still takes requests after it said that it is not ready: as long as it takes
	// every load balancer to hear of it. DrainTimeout is how long requests in flight may then take. A negative
	// DrainDelay is none.
	DrainDelay, DrainTimeout time.Duration
	// MaxBodyBytes bounds a request's body, for all routes; a route may have less.
	MaxBodyBytes int64
	// LargeBodies are routes that may have more, by their pattern ("PUT /api/v1/secrets/{path}/content"): their handlers
	// read the body as a stream, in a time that they bound themselves.
	LargeBodies map[string]int64
	// TrustedProxies are believed in X-Forwarded-For and X-Forwarded-Proto.
	TrustedProxies []netip.Prefix
	// Tracing says where spans go; nil: nowhere, unless OTEL_* variables say it.
	Tracing *config.Tracing
	// CORS lists the web origins that may call.
	CORS config.CORS
	// CheckEvery is how often each dependency is checked; a check may take as long.
	CheckEvery time.Duration
	// ReadHeaderTimeout, ReadTimeout and WriteTimeout bound a request's headers, all of it, and its answer. A handler
	// that streams moves them with http.ResponseController.
	ReadHeaderTimeout, ReadTimeout, WriteTimeout time.Duration
}

// Server is one HTTP server. Mount, Check and Ready come before Run.
type Server struct {
	options Options
	log     *slog.Logger
	proxies proxies
	metrics *metrics
	health  *health
	err     error // of New, told by Run

	large *http.ServeMux // the patterns of LargeBodies

	mounted atomic.Pointer[mounted]
	ready   func() error
	drain   chan struct{} // closed when the server begins to stop
	handler http.Handler

	listen          sync.Once
	main, secondary net.Listener
}

// New prepares a server. What is wrong with the options is Run's error.
func New(o Options) *Server {
	o.DrainDelay = cmp.Or(o.DrainDelay, DefaultDrainDelay)
	o.DrainTimeout = cmp.Or(o.DrainTimeout, DefaultDrainTimeout)
	o.MaxBodyBytes = cmp.Or(o.MaxBodyBytes, DefaultMaxBodyBytes)
	o.CheckEvery = cmp.Or(o.CheckEvery, DefaultCheckEvery)
	o.ReadHeaderTimeout = cmp.Or(o.ReadHeaderTimeout, DefaultReadHeader)
	o.ReadTimeout = cmp.Or(o.ReadTimeout, DefaultRead)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, DefaultWrite)
	if o.Log == nil {
		o.Log = NewLogger("info")
	}
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	s := &Server{options: o, log: o.Log, proxies: o.TrustedProxies, drain: make(chan struct{})}
	if s.metrics, s.err = newMetrics(o.Registry); s.err != nil {
		s.err = fmt.Errorf("register metrics: %w", s.err)
		return s
	}
	s.health = newHealth(o.CheckEvery, o.Log, s.metrics.up)
	origins, err := crossOrigin(o.CORS)
	if err != nil {
		s.err = err
		return s
	}
	s.large = http.NewServeMux()
	for pattern := range o.LargeBodies {
		s.large.Handle(pattern, http.NotFoundHandler())
	}
	s.handler = s.observe(secured(origins(s.limits(s.dispatch()))))
	return s
}

// Mount gives the server what answers all paths but its own (/health, /livez, /readyz). The muxes below it, if given,
// name the route of requests that something before them answered: 401, 429.
func (s *Server) Mount(h http.Handler, muxes ...*http.ServeMux) {
	s.mounted.Store(&mounted{handler: h, muxes: muxes})
}

type mounted struct {
	handler http.Handler
	muxes   []*http.ServeMux
}

// route returns the pattern that a request would have reached; empty: none.
func (m *mounted) route(r *http.Request) string {
	if m == nil {
		return ""
	}
	for _, mux := range m.muxes {
		if _, pattern := mux.Handler(r); pattern != "" {
			return pattern
		}
	}
	return ""
}

// Check adds a dependency that the service cannot do without: /health is 503 while the check fails. It runs in the
// background, alone, and counts as failed when it takes longer than CheckEvery.
func (s *Server) Check(name string, check func(context.Context) error) {
	s.addCheck(name, check, true)
}

// CheckOptional adds a dependency that the service can do without: /health tells of it and stays 200.
func (s *Server) CheckOptional(name string, check func(context.Context) error) {
	s.addCheck(name, check, false)
}

func (s *Server) addCheck(name string, check func(context.Context) error, required bool) {
	if s.health != nil {
		s.health.add(name, check, required)
	}
}

// Ready sets what /readyz asks besides: nil when requests may come. The answer must be quick.
func (s *Server) Ready(check func() error) { s.ready = check }

// Draining is closed when the server begins to stop: what streams without end ends then.
func (s *Server) Draining() <-chan struct{} { return s.drain }

func (s *Server) draining() bool {
	select {
	case <-s.drain:
		return true
	default:
		return false
	}
}

// Handler returns all that the server does with a request, for tests without a listener.
func (s *Server) Handler() http.Handler { return s.handler }

// Listen opens the ports, which Run does otherwise, and tells the addresses; metrics is nil without a MetricsAddr.
func (s *Server) Listen() (requests, metrics net.Addr, err error) {
	s.listen.Do(func() {
		if s.err != nil {
			return
		}
		if s.main, s.err = net.Listen("tcp", s.options.Addr); s.err != nil {
			return
		}
		if s.options.MetricsAddr != "" {
			if s.secondary, s.err = net.Listen("tcp", s.options.MetricsAddr); s.err != nil {
				_ = s.main.Close()
			}
		}
	})
	if s.err != nil {
		return nil, nil, s.err
	}
	if s.secondary != nil {
		metrics = s.secondary.Addr()
	}
	return s.main.Addr(), metrics, nil
}

// Run serves until ctx ends. Then the server says that it is not ready, goes on for DrainDelay, takes no more
// connections, and waits up to DrainTimeout for the requests in flight: nil when all of them were answered.
func (s *Server) Run(ctx context.Context) error {
	if _, _, err := s.Listen(); err != nil {
		return fmt.Errorf("server: %w", err)
	}
	handler, stopTraces := s.traced(ctx, s.handler)
	defer stopTraces()
	server := s.httpServer(handler)
	admin := s.httpServer(s.adminMux())

	checks, stopChecks := context.WithCancel(context.WithoutCancel(ctx))
	defer stopChecks()
	s.health.run(checks)

	failed := make(chan error, 2)
	go func() { failed <- server.Serve(s.main) }()
	if s.secondary != nil {
		go func() { failed <- admin.Serve(s.secondary) }()
	}
	s.log.InfoContext(ctx, "serving", "name", s.options.Name, "addr", s.main.Addr().String())
	defer admin.Close() //nolint:errcheck // the last scrape may be cut
	select {
	case err := <-failed:
		_ = server.Close()
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	return s.stop(server, failed)
}

// stop drains the server.
func (s *Server) stop(server *http.Server, failed <-chan error) error {
	s.log.Info("draining", "delay", s.options.DrainDelay.String(), "timeout", s.options.DrainTimeout.String())
	close(s.drain)
	if s.options.DrainDelay > 0 {
		select {
		case <-time.After(s.options.DrainDelay):
		case err := <-failed:
			_ = server.Close()
			return fmt.Errorf("serve: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.options.DrainTimeout)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		_ = server.Close()
		return fmt.Errorf("requests were cut after %s: %w", s.options.DrainTimeout, err)
	}
	s.log.Info("stopped")
	return nil
}

func (s *Server) httpServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: s.options.ReadHeaderTimeout,
		ReadTimeout:       s.options.ReadTimeout,
		WriteTimeout:      s.options.WriteTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

func (s *Server) adminMux() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.options.Registry, promhttp.HandlerOpts{
		Registry: s.options.Registry, EnableOpenMetrics: true, MaxRequestsInFlight: 4,
	}))
	if s.options.Pprof {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// Why /readyz refuses.
var (
	errDraining   = errors.New("draining")
	errNotMounted = errors.New("starting")
)

func (s *Server) readiness() error {
	switch {
	case s.draining():
		return errDraining
	case s.mounted.Load() == nil:
		return errNotMounted
	case s.ready != nil:
		return s.ready()
	}
	return nil
}
