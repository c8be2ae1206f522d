// SPDX-License-Identifier: Apache-2.0

// Package server is the worker's HTTP server: health, readiness, metrics and status. It shows names and counts,
// never a record or a credential.
package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

// Pipeline supplies what the server reports.
type Pipeline interface {
	Status() config.Status
	Collector() prometheus.Collector
}

// Options are the server's settings.
type Options struct {
	// Listen is the address to serve on, such as ":8080".
	Listen string
	// Pprof also serves /debug/pprof/. Off by default: profiles contain parts of records.
	Pprof bool
}

// Handler serves the paths of package config.
func Handler(p Pipeline, opts Options) (http.Handler, error) {
	registry := prometheus.NewRegistry()
	for _, c := range []prometheus.Collector{
		p.Collector(), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+config.HealthPath, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET "+config.ReadyPath, func(w http.ResponseWriter, _ *http.Request) { ready(w, p.Status()) })
	mux.HandleFunc("GET "+config.StatusPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(p.Status())
	})
	mux.Handle("GET "+config.MetricsPath, promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	if opts.Pprof {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux, nil
}

// ready responds with the names of the components that are not connected.
func ready(w http.ResponseWriter, status config.Status) {
	if status.Ready {
		_, _ = w.Write([]byte("ok\n"))
		return
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	if status.Draining {
		fmt.Fprintln(w, "draining")
	}
	for _, list := range [][]config.Component{status.Sources, status.Sinks} {
		for _, c := range list {
			if c.State != config.StateConnected && c.State != config.StateFinished {
				fmt.Fprintf(w, "%s (%s) is %s\n", c.Name, c.Type, c.State)
			}
		}
	}
}

// Serve listens until ctx ends. It fails at once if the address is in use.
func Serve(ctx context.Context, p Pipeline, opts Options) (addr net.Addr, done <-chan error, err error) {
	handler, err := Handler(p, opts)
	if err != nil {
		return nil, nil, err
	}
	listener, err := net.Listen("tcp", opts.Listen)
	if err != nil {
		return nil, nil, fmt.Errorf("listen: %w", err)
	}
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
	ended := make(chan error, 1)
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			ended <- err
		}
		close(ended)
	}()
	context.AfterFunc(ctx, func() {
		stopping, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = server.Shutdown(stopping)
	})
	return listener.Addr(), ended, nil
}
