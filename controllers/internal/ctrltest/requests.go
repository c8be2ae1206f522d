// SPDX-License-Identifier: Apache-2.0

package ctrltest

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
)

// Requests counts the requests to the API server, except for watches.
type Requests struct {
	mu     sync.Mutex
	reads  []string
	writes []string
	last   time.Time
	refuse string
}

// Count returns a copy of cfg whose clients count their requests.
func Count(cfg *rest.Config) (*rest.Config, *Requests) {
	requests := &Requests{}
	counted := rest.CopyConfig(cfg)
	counted.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			requests.note(req)
			if requests.refuses(req) {
				return conflict(req)
			}
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
		// A broadcaster sends events after the pass.
		if !strings.Contains(req.URL.Path, "/events") {
			r.writes = append(r.writes, line+created(req))
		}
	default:
		r.reads = append(r.reads, line)
	}
}

// created returns "/name" of the object in a POST, whose path does not have it.
func created(req *http.Request) string {
	if req.Method != http.MethodPost || req.GetBody == nil {
		return ""
	}
	body, err := req.GetBody()
	if err != nil {
		return ""
	}
	defer body.Close() //nolint:errcheck // it is in memory
	data, err := io.ReadAll(body)
	if err != nil {
		return ""
	}
	decoded, _, err := serializer.NewCodecFactory(Scheme()).UniversalDeserializer().Decode(data, nil, nil)
	if err != nil {
		return ""
	}
	obj, err := meta.Accessor(decoded)
	if err != nil {
		return "" // an Eviction, a TokenReview
	}
	return "/" + obj.GetName()
}

// Refuse answers the next request of this kind, "METHOD path", with a conflict, as after a concurrent change.
func (r *Requests) Refuse(line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refuse = line
}

// Refused reports whether the request of Refuse came.
func (r *Requests) Refused() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.refuse == ""
}

func (r *Requests) refuses(req *http.Request) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuse == "" || r.refuse != req.Method+" "+req.URL.Path {
		return false
	}
	r.refuse = ""
	return true
}

func conflict(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		if err := req.Body.Close(); err != nil {
			return nil, err
		}
	}
	const status = `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Conflict","code":409}`
	return &http.Response{
		StatusCode: http.StatusConflict, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(status)),
	}, nil
}

// Quiet reports whether there was no request for half a second.
func (r *Requests) Quiet() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Since(r.last) > 500*time.Millisecond
}

// Reset starts counting from zero.
func (r *Requests) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reads, r.writes = nil, nil
}

// Writes returns the requests since the last Reset that change something, as "METHOD path", with the object's name.
func (r *Requests) Writes() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.writes...)
}

// Reads returns the gets and lists since the last Reset, as "GET path".
func (r *Requests) Reads() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.reads...)
}
