// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

// logs is a log that tests read while it is written.
type logs struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logs) logger() *slog.Logger {
	return slog.New(contextual{slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug})})
}

// running is a running server, with what stops it.
type running struct {
	*Server
	url, metrics string
	stop         context.CancelFunc
	done         chan error
}

// run starts a server on free ports; it has ended when the test ends.
func run(t testing.TB, s *Server) *running {
	t.Helper()
	requests, metrics, err := s.Listen()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Server: s, url: "http://" + requests.String(), stop: cancel, done: make(chan error, 1)}
	if metrics != nil {
		r.metrics = "http://" + metrics.String()
	}
	ended := make(chan struct{})
	go func() { r.done <- s.Run(ctx); close(ended) }()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return r
}

func options(log *logs) Options {
	return Options{Name: "test", Addr: "127.0.0.1:0", MetricsAddr: "127.0.0.1:0", Log: log.logger(), DrainDelay: -1, DrainTimeout: 10 * time.Second}
}

// local trusts the tests' own address as a proxy.
var local = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

type got struct {
	status int
	header http.Header
	body   string
}

func fetch(t testing.TB, method, url, body string, headers ...string) got {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return got{resp.StatusCode, resp.Header, string(data)}
}

// eventually polls for a condition.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func echo() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ip", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, ClientIP(r.Context()).String()) })
	mux.HandleFunc("POST /things/{id}", func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		Annotate(r.Context(), slog.Int64("read", n))
		w.WriteHeader(http.StatusCreated)
	})
	mux.HandleFunc("GET /panic", func(http.ResponseWriter, *http.Request) { panic("canary") })
	mux.HandleFunc("GET /half", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half")
		panic("canary")
	})
	return Routes(mux)
}
