// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func serve(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func get(path string) []Request {
	return []Request{{Method: http.MethodGet, Path: path, Status: http.StatusOK}}
}

// TestEach checks that all connections are open before the first request, and that each sends its number of requests.
func TestEach(t *testing.T) {
	const users, each = 50, 3
	var inside sync.WaitGroup
	inside.Add(users)
	var first sync.Map
	address := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		if _, known := first.LoadOrStore(r.RemoteAddr, true); !known {
			inside.Done()
		}
		inside.Wait() // until every connection has sent its first
	})
	result, err := Run(t.Context(), Spec{Address: address, Connections: users, Each: each, Classes: []Class{{Name: "get", Weight: 1, Requests: get("/")}}})
	if err != nil {
		t.Fatal(err)
	}
	if result.Requests != users*each || result.Errors != 0 {
		t.Errorf("%d requests, %d errors: %v", result.Requests, result.Errors, result.Failures)
	}
}

// TestOnce checks that if there are as many requests as a class has, each is sent once, over any connection.
func TestOnce(t *testing.T) {
	const users, each = 4, 25
	var seen sync.Map
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if _, twice := seen.LoadOrStore(r.URL.Path, true); twice {
			w.WriteHeader(http.StatusConflict)
		}
	})
	var requests []Request
	for i := range users * each {
		requests = append(requests, get(fmt.Sprintf("/%d", i))...)
	}
	result, err := Run(t.Context(), Spec{Address: address, Connections: users, Each: each, Classes: []Class{{Name: "get", Weight: 1, Requests: requests}}})
	if err != nil || result.Requests != users*each || result.Errors != 0 {
		t.Errorf("%d requests, %d errors: %v, %v", result.Requests, result.Errors, result.Failures, err)
	}
}

// TestMix checks that classes are sent by their weights, with the properties of each request, and that a wrong status is
// a reported error.
func TestMix(t *testing.T) {
	var puts, gets atomic.Int64
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			puts.Add(1)
			var body bytes.Buffer
			if _, _ = body.ReadFrom(r.Body); body.String() != "value" || r.Header.Get("Authorization") != "Bearer x" {
				w.WriteHeader(http.StatusBadRequest)
			}
			return
		}
		gets.Add(1)
		http.Error(w, "not here", http.StatusNotFound)
	})
	result, err := Run(t.Context(), Spec{Address: address, Connections: 2, Each: 500, Classes: []Class{
		{Name: "put", Weight: 9, Requests: []Request{{
			Method: http.MethodPut, Path: "/a", Body: []byte("value"), Header: map[string]string{"Authorization": "Bearer x"}, Status: http.StatusOK,
		}}},
		{Name: "get", Weight: 1, Requests: get("/b")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if gets.Load()+puts.Load() != 1000 || gets.Load() < 50 || gets.Load() > 200 {
		t.Errorf("%d of one class and %d of the other", puts.Load(), gets.Load())
	}
	if int64(result.Errors) != gets.Load() || len(result.Failures) != 1 || !strings.Contains(result.Failures[0], "get: GET answers 404: not here") {
		t.Errorf("%d errors: %q", result.Errors, result.Failures)
	}
}

// TestRate checks that the pace does not wait for a slow response, and that times are counted from when a request was
// due.
func TestRate(t *testing.T) {
	const count, rate = 20, 1000
	var seen atomic.Int64
	others := make(chan struct{})
	address := serve(t, func(_ http.ResponseWriter, _ *http.Request) {
		switch seen.Add(1) {
		case 1:
			<-others
		case count:
			close(others)
		}
	})
	result, err := Run(t.Context(), Spec{
		Address: address, Connections: 2, Rate: rate, Seconds: count / float64(rate), Classes: []Class{{Name: "get", Weight: 1, Requests: get("/")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if result.Requests != count || result.Errors != 0 {
		t.Errorf("%d requests, %d errors: %v", result.Requests, result.Errors, result.Failures)
	}
	if last := 1000.0 * (count - 1) / rate; result.All.Max < last {
		t.Errorf("the slowest took %v ms: it waited for the last, which was due after %v ms", result.All.Max, last)
	}
}

// TestDue checks that the time of a request includes its wait for a connection.
func TestDue(t *testing.T) {
	address := serve(t, func(_ http.ResponseWriter, _ *http.Request) {})
	r := &run{spec: Spec{Address: address, Connections: 1, Each: 1, Classes: []Class{{Name: "get", Weight: 1, Requests: get("/")}}}}
	if err := errors.Join(r.prepare(), r.dial(t.Context())); err != nil {
		t.Fatal(err)
	}
	defer r.workers[0].close()
	r.workers[0].one(t.Context(), time.Now().Add(-time.Minute))
	if took := r.workers[0].took[0][0]; took < 60_000 {
		t.Errorf("it took %v ms", took)
	}
}

// TestBroken checks that a broken connection is an error, and that the next request uses a new one.
func TestBroken(t *testing.T) {
	var seen atomic.Int64
	address := serve(t, func(_ http.ResponseWriter, _ *http.Request) {
		if seen.Add(1) == 2 {
			panic(http.ErrAbortHandler)
		}
	})
	spec, _ := json.Marshal(Spec{Address: address, Connections: 1, Each: 3, Classes: []Class{{Name: "get", Weight: 1, Requests: get("/")}}})
	var out bytes.Buffer
	if err := Main(bytes.NewReader(spec), &out); err != nil {
		t.Fatal(err)
	}
	var result Result
	if err := json.Unmarshal(out.Bytes(), &result); err != nil || result.Requests != 3 || result.Errors != 1 {
		t.Errorf("%v: %s", err, out.String())
	}
}

func TestSpec(t *testing.T) {
	for name, spec := range map[string]Spec{
		"no connection": {Classes: []Class{{Weight: 1, Requests: get("/")}}, Each: 1},
		"no class":      {Connections: 1, Each: 1},
		"no weight":     {Connections: 1, Each: 1, Classes: []Class{{Requests: get("/")}}},
		"no request":    {Connections: 1, Each: 1, Classes: []Class{{Weight: 1}}},
		"no end":        {Connections: 1, Classes: []Class{{Weight: 1, Requests: get("/")}}},
	} {
		if _, err := Run(t.Context(), spec); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
