// SPDX-License-Identifier: Apache-2.0

package ctrltest

import (
	"net/http"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/rest"
)

// Requests counts what goes over the wire to the API server, watches aside.
type Requests struct {
	mu     sync.Mutex
	reads  []string
	writes []string
	last   time.Time
}

// Count gives a copy of cfg whose clients count their requests.
func Count(cfg *rest.Config) (*rest.Config, *Requests) {
	requests := &Requests{}
	counted := rest.CopyConfig(cfg)
	counted.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			requests.note(req)
			return next.RoundTrip(req)
		})
	})
	return counted, requests
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func (r *Requests) note(req *http.Request) {
	if req.URL.Query().Get("watch") != "" {
		return
	}
	line := req.Method + " " + req.URL.Path
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = time.Now()
	switch {
	case req.Method != http.MethodGet:
		// Events are spread by a broadcaster of their own, after the pass.
		if !strings.Contains(req.URL.Path, "/events") {
			r.writes = append(r.writes, line)
		}
	default:
		r.reads = append(r.reads, line)
	}
}

// Quiet tells whether half a second has gone by without a request.
func (r *Requests) Quiet() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Since(r.last) > 500*time.Millisecond
}

// Reset forgets what was counted.
func (r *Requests) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reads, r.writes = nil, nil
}

// Writes are the requests that change something, as "METHOD path", since the last Reset.
func (r *Requests) Writes() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.writes...)
}

// Reads are the gets and lists, as "GET path", since the last Reset.
func (r *Requests) Reads() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.reads...)
}
