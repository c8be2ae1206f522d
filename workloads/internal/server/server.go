// SPDX-License-Identifier: Apache-2.0

// Package server runs a product service's HTTP server: its life cycle, health, metrics, logs, traces, and the limits for
// every request.
//
//	s := server.New(server.Options{Name: "echo", Addr: ":8080", MetricsAddr: ":9090", Log: log})
//	s.Check("database", pool.Ping)
//	s.Mount(auth.Middleware(identity)(limits.Middleware(server.Routes(mux))), mux)
//	err := s.Run(ctx) // until ctx ends, then drains
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

// Defaults of Options.
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

// Options of a Server. Everything but the name and the address has a default.
type Options struct {
	// Name is the product's: the service's name in traces.
	Name string
	// Addr serves requests, MetricsAddr /metrics and pprof; empty: no metrics.
	Addr, MetricsAddr string
	Log               *slog.Logger
	// Registry holds the metrics; Go's and the process's are added.
	Registry *prometheus.Registry
	// Pprof serves /debug/pprof next to the metrics.
	Pprof bool
	// DrainDelay is how long the server still accepts requests after it reported that it is not ready: as long as every
	// load balancer takes to notice. DrainTimeout is how long requests in flight may then take. A negative DrainDelay
	// means none.
	DrainDelay, DrainTimeout time.Duration
	// MaxBodyBytes limits a request's body, on all routes; a route may have a lower limit.
	MaxBodyBytes int64
	// LargeBodies are routes with a higher limit, by their pattern ("PUT /api/v1/secrets/{path}/content"): their handlers
	// read the body as a stream, within a time limit of their own.
	LargeBodies map[string]int64
	// TrustedProxies are trusted in X-Forwarded-For and X-Forwarded-Proto.
	TrustedProxies []netip.Prefix
	// Tracing configures where spans are sent; nil: nowhere, unless OTEL_* variables are set.
	Tracing *config.Tracing
	// CORS lists the web origins that may call.
	CORS config.CORS
	// CheckEvery is how often each dependency is checked; also the timeout of a check.
	CheckEvery time.Duration
	// ReadHeaderTimeout, ReadTimeout and WriteTimeout limit a request's headers, all of it, and its response. A handler
	// that streams extends them with http.ResponseController.
	ReadHeaderTimeout, ReadTimeout, WriteTimeout time.Duration
}

// Server is one HTTP server. Mount, Check and Ready come before Run.
type Server struct {
	options Options
	log     *slog.Logger
	proxies proxies
	metrics *metrics
	health  *health
	err     error // of New, returned by Run

	large *http.ServeMux // the patterns of LargeBodies

	mounted atomic.Pointer[mounted]
	ready   func() error
	drain   chan struct{} // closed when the server begins to stop
	handler http.Handler

	listen          sync.Once
	main, secondary net.Listener
}

// New returns a server. Invalid options are reported by Run.
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

// Mount sets the handler of all paths except the server's own (/health, /livez, /readyz). The muxes below it, if given,
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

// Check adds a required dependency: /health is 503 while the check fails. It runs in the background, on its own, and
// counts as failed if it takes longer than CheckEvery.
func (s *Server) Check(name string, check func(context.Context) error) {
	s.addCheck(name, check, true)
}

// CheckOptional adds an optional dependency: /health reports it and stays 200.
func (s *Server) CheckOptional(name string, check func(context.Context) error) {
	s.addCheck(name, check, false)
}

func (s *Server) addCheck(name string, check func(context.Context) error, required bool) {
	if s.health != nil {
		s.health.add(name, check, required)
	}
}

// Ready sets a further check of /readyz: nil if the service can handle requests. It must be fast.
func (s *Server) Ready(check func() error) { s.ready = check }

// Draining is closed when the server starts to shut down, so that endless streams end.
func (s *Server) Draining() <-chan struct{} { return s.drain }

func (s *Server) draining() bool {
	select {
	case <-s.drain:
		return true
	default:
		return false
	}
}

// Handler returns the server's handler, for tests without a listener.
func (s *Server) Handler() http.Handler { return s.handler }

// Listen opens the ports, which Run does otherwise, and returns the addresses; metrics is nil without a MetricsAddr.
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

// Run serves until ctx ends. Then the server reports that it is not ready, continues for DrainDelay, accepts no more
// connections, and waits up to DrainTimeout for the requests in flight: nil if all of them were completed.
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

// Reasons why /readyz refuses.
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
