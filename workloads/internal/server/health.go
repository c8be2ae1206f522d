// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Statuses of a service and of a dependency.
const (
	StatusUp       = "up"
	StatusDown     = "down"
	StatusUnknown  = "unknown"  // not checked yet
	StatusDegraded = "degraded" // of a service: an optional dependency is down
)

// Health is the response of /health.
type Health struct {
	Status       string                `json:"status"`
	Dependencies map[string]Dependency `json:"dependencies"`
}

// Dependency is the last check of one dependency.
type Dependency struct {
	Status   string `json:"status"`
	Required bool   `json:"required"`
	// LatencyMS is how long the check took, in milliseconds; for a running one, how long it has run.
	LatencyMS float64    `json:"latencyMs"`
	CheckedAt *time.Time `json:"checkedAt,omitempty"`
	// Reason is "error" or "timeout"; the log has the details.
	Reason string `json:"reason,omitempty"`
}

// health checks dependencies in the background, so that a request for the state waits for none of them.
type health struct {
	every time.Duration
	log   *slog.Logger
	up    *prometheus.GaugeVec

	mu      sync.Mutex
	list    []*dependency
	running context.Context //nolint:containedctx // of run: a dependency may be added later
}

type dependency struct {
	name  string
	check func(context.Context) error // under health.mu, as the state
	state Dependency
}

func newHealth(every time.Duration, log *slog.Logger, up *prometheus.GaugeVec) *health {
	return &health{every: every, log: log, up: up}
}

func (h *health) add(name string, check func(context.Context) error, required bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, d := range h.list {
		if d.name == name { // a retried start
			d.check = check
			return
		}
	}
	d := &dependency{name: name, check: check, state: Dependency{Status: StatusUnknown, Required: required}}
	h.list = append(h.list, d)
	h.up.WithLabelValues(name).Set(0)
	if h.running != nil {
		go h.watch(h.running, d)
	}
}

// run starts a checker per dependency; they end with ctx.
func (h *health) run(ctx context.Context) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.running = ctx
	for _, d := range h.list {
		go h.watch(ctx, d)
	}
}

func (h *health) watch(ctx context.Context, d *dependency) {
	ticker := time.NewTicker(h.every)
	defer ticker.Stop()
	for {
		h.checkOnce(ctx, d)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// checkOnce runs a check, and reports a failure at its deadline even if it ignores its context. The next one starts once
// it has ended.
func (h *health) checkOnce(ctx context.Context, d *dependency) {
	limited, cancel := context.WithTimeout(ctx, h.every)
	defer cancel()
	start := time.Now()
	done := make(chan error, 1)
	h.mu.Lock()
	check := d.check
	h.mu.Unlock()
	go func() { done <- check(limited) }()
	select {
	case err := <-done:
		h.record(ctx, d, start, err)
	case <-limited.Done():
		h.record(ctx, d, start, limited.Err())
		select {
		case <-done:
		case <-ctx.Done():
		}
	}
}

func (h *health) record(ctx context.Context, d *dependency, start time.Time, err error) {
	if ctx.Err() != nil { // the server is shutting down, which does not concern the dependency
		return
	}
	now := time.Now().UTC()
	h.mu.Lock()
	before := d.state.Status
	d.state.LatencyMS, d.state.CheckedAt = float64(time.Since(start).Microseconds())/1000, &now
	d.state.Status, d.state.Reason = StatusUp, ""
	if err != nil {
		d.state.Status, d.state.Reason = StatusDown, "error"
		if errors.Is(err, context.DeadlineExceeded) {
			d.state.Reason = "timeout"
		}
	}
	after := d.state.Status
	h.mu.Unlock()
	value := 1.0
	if err != nil {
		value = 0
	}
	h.up.WithLabelValues(d.name).Set(value)
	if before == after {
		return
	}
	if err != nil {
		h.log.Warn("a dependency is down", "dependency", d.name, "error", err)
	} else {
		h.log.Info("a dependency is up", "dependency", d.name)
	}
}

// report returns the state of all, and 503 if a required one is not up.
func (h *health) report() (int, Health) {
	h.mu.Lock()
	defer h.mu.Unlock()
	status, report := http.StatusOK, Health{Status: StatusUp, Dependencies: make(map[string]Dependency, len(h.list))}
	for _, d := range h.list {
		report.Dependencies[d.name] = d.state
		switch {
		case d.state.Status == StatusUp:
		case d.state.Required:
			status, report.Status = http.StatusServiceUnavailable, StatusDown
		case report.Status == StatusUp:
			report.Status = StatusDegraded
		}
	}
	return status, report
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil { // cannot happen with maps and structs of texts and numbers
		status, data = http.StatusInternalServerError, []byte(`{"status":"down"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n'))
}
