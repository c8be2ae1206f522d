// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/itechsmart/operator/workloads/config"
)

func TestRequests(t *testing.T) {
	log := &logs{}
	s := New(options(log))
	s.Mount(echo())
	r := run(t, s)

	given := fetch(t, http.MethodPost, r.url+"/things/7?token=canary", "abc", "X-Request-Id", "client-1.a_B")
	if given.status != http.StatusCreated || given.header.Get("X-Request-Id") != "client-1.a_B" {
		t.Errorf("%d %v", given.status, given.header)
	}
	for _, bad := range []string{"", "a b", "a\tb", strings.Repeat("a", 129), "a\"b", "é"} {
		id := fetch(t, http.MethodGet, r.url+"/ip", "", "X-Request-Id", bad).header.Get("X-Request-Id")
		if id == bad || !wellFormed(id) {
			t.Errorf("id %q became %q", bad, id)
		}
	}
	for name, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
		"Cross-Origin-Resource-Policy": "same-origin", "Strict-Transport-Security": "",
	} {
		if value := given.header.Get(name); value != want {
			t.Errorf("%s: %q, want %q", name, value, want)
		}
	}
	if p := fetch(t, http.MethodGet, r.url+"/panic", ""); p.status != http.StatusInternalServerError || strings.Contains(p.body, "canary") || !strings.Contains(p.body, `"code":"internal"`) {
		t.Errorf("a panic: %d %s", p.status, p.body)
	}
	// A connection of its own: on a used one, the client would retry.
	half, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get(r.url + "/half")
	if err == nil {
		_, err = io.ReadAll(half.Body)
		half.Body.Close()
	}
	if err == nil {
		t.Error("a truncated response looks complete")
	}
	fetch(t, http.MethodGet, r.url+"/nowhere/canary", "")
	fetch(t, "BREW", r.url+"/things/7", "")

	eventually(t, "the lines of all requests", func() bool { return strings.Count(log.String(), `"msg":"request"`) >= 11 })
	var line map[string]any
	for text := range strings.Lines(log.String()) {
		if strings.Contains(text, "client-1.a_B") {
			if err := json.Unmarshal([]byte(text), &line); err != nil {
				t.Fatal(err)
			}
		}
	}
	for key, want := range map[string]any{
		"route": "POST /things/{id}", "path": "/things/7", "status": 201.0, "read": 3.0, "ip": "127.0.0.1", "method": "POST", "requestID": "client-1.a_B", "level": "INFO",
	} {
		if line[key] != want {
			t.Errorf("log %s: %v, want %v", key, line[key], want)
		}
	}
	if strings.Contains(log.String(), "token=") || strings.Contains(log.String(), `"canary"`) {
		t.Error("the log contains a query, or the value of a panic")
	}
	metrics := fetch(t, http.MethodGet, r.metrics+"/metrics", "").body
	for _, want := range []string{
		`http_server_request_duration_seconds_count{code="201",method="POST",route="POST /things/{id}"} 1`,
		`http_server_request_duration_seconds_count{code="404",method="GET",route="unmatched"} 1`,
		`http_server_request_duration_seconds_count{code="405",method="OTHER",route="unmatched"} 1`,
		`http_server_request_duration_seconds_count{code="500",method="GET",route="GET /panic"} 1`,
		"http_server_panics_total 2", "http_server_requests_in_flight 0", "go_goroutines", "process_resident_memory_bytes",
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if strings.Contains(metrics, "canary") || strings.Contains(metrics, "BREW") {
		t.Error("a label contains a client's input")
	}
	if p := fetch(t, http.MethodGet, r.metrics+"/debug/pprof/", ""); p.status != http.StatusNotFound {
		t.Errorf("pprof is on: %d", p.status)
	}
	if p := fetch(t, http.MethodGet, r.url+"/metrics", ""); p.status != http.StatusNotFound {
		t.Errorf("metrics are served to everyone: %d", p.status)
	}
}

// TestRouteOfRefused checks that a response of a middleware counts for the route that it guards.
func TestRouteOfRefused(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /things/{id}", func(http.ResponseWriter, *http.Request) {})
	s := New(options(&logs{}))
	s.Mount(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }), mux)
	r := run(t, s)
	fetch(t, http.MethodGet, r.url+"/things/7", "")
	fetch(t, http.MethodGet, r.url+"/nothing", "")
	metrics := fetch(t, http.MethodGet, r.metrics+"/metrics", "").body
	for _, route := range []string{"GET /things/{id}", "unmatched"} {
		if want := `http_server_request_duration_seconds_count{code="401",method="GET",route="` + route + `"} 1`; !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}

func TestPprofWhenEnabled(t *testing.T) {
	o := options(&logs{})
	o.Pprof = true
	r := run(t, New(o))
	if p := fetch(t, http.MethodGet, r.metrics+"/debug/pprof/goroutine?debug=1", ""); p.status != http.StatusOK {
		t.Errorf("pprof: %d", p.status)
	}
	if p := fetch(t, http.MethodGet, r.url+"/debug/pprof/", ""); p.status == http.StatusOK {
		t.Error("pprof is served to everyone")
	}
}

func askHealth(t *testing.T, r *running) (int, Health, time.Duration) {
	t.Helper()
	start := time.Now()
	g := fetch(t, http.MethodGet, r.url+config.HealthPath, "")
	took := time.Since(start)
	var h Health
	if err := json.Unmarshal([]byte(g.body), &h); err != nil {
		t.Fatalf("%v in %s", err, g.body)
	}
	if strings.Contains(g.body, "hunter2") {
		t.Errorf("health contains an error's text: %s", g.body)
	}
	return g.status, h, took
}

// TestHealthOfLaterChecks checks that a check can be added while the server runs, and that a second one of a name replaces
// the first.
func TestHealthOfLaterChecks(t *testing.T) {
	o := options(&logs{})
	o.CheckEvery = 20 * time.Millisecond
	s := New(o)
	s.Mount(echo())
	r := run(t, s)
	eventually(t, "the server serves", func() bool { return fetch(t, http.MethodGet, r.url+config.LivePath, "").status == http.StatusOK })
	status := func(want string) func() bool {
		return func() bool {
			_, h, _ := askHealth(t, r)
			return len(h.Dependencies) == 1 && h.Dependencies["queue"].Status == want
		}
	}
	s.CheckOptional("queue", func(context.Context) error { return errors.New("hunter2") })
	eventually(t, "the late check fails", status(StatusDown))
	s.CheckOptional("queue", func(context.Context) error { return nil })
	eventually(t, "its replacement succeeds", status(StatusUp))
}

func TestHealth(t *testing.T) {
	o := options(&logs{})
	o.CheckEvery = 20 * time.Millisecond
	s := New(o)
	database, cache := make(chan error, 1), make(chan error, 1)
	follow := func(state chan error) func(context.Context) error {
		var last error
		return func(context.Context) error {
			select {
			case last = <-state:
			default:
			}
			return last
		}
	}
	s.Check("database", follow(database))
	s.CheckOptional("cache", follow(cache))
	stuck := make(chan struct{})
	t.Cleanup(func() { close(stuck) })
	s.CheckOptional("stuck", func(context.Context) error { <-stuck; return nil })
	s.Mount(echo())
	r := run(t, s)
	reaches := func(what string, status int, overall, database, cache string) {
		t.Helper()
		eventually(t, what, func() bool {
			code, h, took := askHealth(t, r)
			if took > time.Second {
				t.Errorf("it took %s", took)
			}
			return code == status && h.Status == overall && h.Dependencies["database"].Status == database && h.Dependencies["cache"].Status == cache
		})
	}
	reaches("all up, except one that hangs", 200, StatusDegraded, StatusUp, StatusUp)
	eventually(t, "a check that hangs is down", func() bool {
		_, h, _ := askHealth(t, r)
		return h.Dependencies["stuck"].Status == StatusDown && h.Dependencies["stuck"].Reason == "timeout"
	})
	cache <- errors.New("hunter2")
	reaches("the cache is down", 200, StatusDegraded, StatusUp, StatusDown)
	database <- errors.New("hunter2")
	reaches("the database is down", 503, StatusDown, StatusDown, StatusDown)
	if ready := fetch(t, http.MethodGet, r.url+config.ReadyPath, ""); ready.status != http.StatusOK {
		t.Errorf("a dependency takes all replicas out of service: %d", ready.status)
	}
	database <- nil
	reaches("the database is back", 200, StatusDegraded, StatusUp, StatusDown)
	_, h, _ := askHealth(t, r)
	if d := h.Dependencies["database"]; !d.Required || d.CheckedAt == nil || d.LatencyMS < 0 {
		t.Errorf("the database: %+v", d)
	}
	if m := fetch(t, http.MethodGet, r.metrics+"/metrics", "").body; !strings.Contains(m, `dependency_up{dependency="database"} 1`) || !strings.Contains(m, `dependency_up{dependency="cache"} 0`) {
		t.Error("metrics do not report which dependency is up")
	}
}

// TestHealthIsQuick checks that the response takes at most 100 ms even if every check hangs.
func TestHealthIsQuick(t *testing.T) {
	o := options(&logs{})
	s := New(o)
	s.Check("database", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
	s.Mount(echo())
	r := run(t, s)
	askHealth(t, r) // the connection
	best := time.Hour
	for range 20 {
		code, h, took := askHealth(t, r)
		if best = min(best, took); code != http.StatusServiceUnavailable || h.Dependencies["database"].Status != StatusUnknown {
			t.Errorf("%d %+v", code, h)
		}
	}
	if best > 100*time.Millisecond {
		t.Errorf("the fastest response took %s", best)
	}
}

func TestReady(t *testing.T) {
	s := New(options(&logs{}))
	why := errors.New("no keys yet")
	state := make(chan error, 1)
	s.Ready(func() error {
		select {
		case why = <-state:
		default:
		}
		return why
	})
	r := run(t, s)
	ready := func() int { return fetch(t, http.MethodGet, r.url+config.ReadyPath, "").status }
	if code := fetch(t, http.MethodGet, r.url+"/ip", "").status; code != http.StatusServiceUnavailable {
		t.Errorf("before Mount: %d", code)
	}
	if ready() != http.StatusServiceUnavailable {
		t.Error("ready before Mount")
	}
	s.Mount(echo())
	if ready() != http.StatusServiceUnavailable {
		t.Error("ready although its check fails")
	}
	state <- nil
	if ready() != http.StatusOK || fetch(t, http.MethodGet, r.url+config.LivePath, "").status != http.StatusOK {
		t.Error("not ready or not alive")
	}
}

func TestBadOptions(t *testing.T) {
	taken := prometheus.NewRegistry()
	New(Options{Registry: taken})
	for name, o := range map[string]Options{
		"any origin":       {CORS: config.CORS{Origins: []string{"*"}}},
		"null":             {CORS: config.CORS{Origins: []string{"null"}}},
		"origin with path": {CORS: config.CORS{Origins: []string{"https://a.example/"}}},
		"no scheme":        {CORS: config.CORS{Origins: []string{"a.example"}}},
		"registry in use":  {Registry: taken},
		"address":          {Addr: "256.0.0.1:0"},
		"metrics address":  {Addr: "127.0.0.1:0", MetricsAddr: "256.0.0.1:0"},
	} {
		if err := New(o).Run(t.Context()); err == nil {
			t.Errorf("%s: Run succeeded", name)
		}
	}
}

func TestLoggerLevels(t *testing.T) {
	for level, debug := range map[string]bool{"debug": true, "info": false, "DEBUG": true, "": false, "loud": false} {
		if got := NewLogger(level).Enabled(t.Context(), -4); got != debug {
			t.Errorf("level %q writes debug lines: %t", level, got)
		}
	}
}
