// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connector"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connector/connectortest"
	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/internal/dialguard"
)

func TestMain(m *testing.M) {
	// The tests' servers are on the loopback interface.
	_ = os.Setenv(dialguard.Variable, "true")
	os.Exit(m.Run())
}

// api serves numbered records in pages of ten, with every type of pagination.
type api struct {
	mu      sync.Mutex
	records []string
}

func (a *api) seed(from, n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := from; i < from+n; i++ {
		a.records = append(a.records, string(connectortest.Value(i)))
	}
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	const size = 10
	start, _ := strconv.Atoi(r.URL.Query().Get("after"))
	if page, err := strconv.Atoi(r.URL.Query().Get("page")); err == nil {
		start = (page - 1) * size
	}
	if r.URL.Path == "/lines" {
		start = 0
	}
	start = min(start, len(a.records))
	end := min(start+size, len(a.records))
	if r.URL.Path == "/lines" {
		_, _ = io.WriteString(w, strings.Join(a.records, "\n"))
		return
	}
	next := "null"
	if end < len(a.records) || r.URL.Path == "/feed" {
		next = strconv.Itoa(end)
	}
	if next != "null" {
		w.Header().Set("Link", fmt.Sprintf(`<%s?after=%s>; rel="next", </x>; rel="last"`, r.URL.Path, next))
	}
	_, _ = fmt.Fprintf(w, "{\"meta\": {\"next\": %s},\n \"data\": {\"items\": [%s]}}", next, strings.Join(a.records[start:end], ",\n"))
}

func TestSourceConformance(t *testing.T) {
	for _, test := range []struct {
		name, path string
		config     map[string]any
		watch      bool
	}{
		{"lines", "/lines", map[string]any{}, false},
		{"link", "/all", map[string]any{"records": "data.items", "pagination": map[string]any{"type": "link"}}, false},
		{"cursor", "/all", map[string]any{"records": "data.items", "pagination": map[string]any{"type": "cursor", "path": "meta.next", "parameter": "after"}}, false},
		{"page", "/all", map[string]any{"records": "data.items", "pagination": map[string]any{"type": "page", "parameter": "page"}}, false},
		{"feed", "/feed", map[string]any{"records": "data.items", "pagination": map[string]any{"type": "cursor", "path": "meta.next", "parameter": "after", "keep": true}}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			connectortest.Source(t, func(t *testing.T) connectortest.SourceHarness {
				served := &api{}
				server := httptest.NewServer(served)
				t.Cleanup(server.Close)
				spec := Source()
				cfg := map[string]any{"url": server.URL + test.path, "watch": test.watch, "interval": "20ms"}
				for key, value := range test.config {
					cfg[key] = value
				}
				return connectortest.SourceHarness{
					Common: connectortest.Common{
						Spec: spec, Env: connectortest.NewEnv(t, spec, backend.Binding{}), Config: cfg,
						BadConfigs: map[string]string{
							`{}`: "url", `{"url":"ftp://x/"}`: "url", `{"url":"//x"}`: "url", `{"url":"http://user:CONFIDENTIAL@x/"}`: "url",
							`{"url":"http://x","headers":{"a b":"c"}}`: "headers", `{"url":"http://x","headers":{"a":"c\r\nd: e"}}`: "headers",
							`{"url":"http://x","pagination":{"type":"cursor"}}`: "path", `{"url":"http://x","pagination":{"type":"page"}}`: "parameter", `{"url":"http://x","method":"DELETE"}`: "method",
						},
						UnreachableConfig: map[string]any{"url": "http://127.0.0.1:1/", "retries": 1},
					},
					Bounded: !test.watch, Stateless: true,
					Seed: func(_ testing.TB, from, n int) { served.seed(from, n) },
				}
			})
		})
	}
}

// receiver accepts batches, and drops those whose key it has seen.
type receiver struct {
	mu     sync.Mutex
	seen   map[string]bool
	stored [][]byte
	fails  atomic.Int64 // this many responses are 429 although the content was accepted
	layout string
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	if err == nil && request.Header.Get("Content-Encoding") == "gzip" {
		var reader *gzip.Reader
		if reader, err = gzip.NewReader(bytes.NewReader(body)); err == nil {
			body, err = io.ReadAll(reader)
		}
	}
	if err != nil || bytes.Contains(body, []byte("CONFIDENTIAL")) {
		w.WriteHeader(http.StatusUnprocessableEntity)
		_, _ = w.Write(body)
		return
	}
	var values []json.RawMessage
	switch r.layout {
	case "array":
		err = json.Unmarshal(body, &values)
	case "single":
		values = append(values, body)
	default:
		for line := range bytes.Lines(body) {
			values = append(values, bytes.Clone(line))
		}
	}
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if key := request.Header.Get("Idempotency-Key"); key == "" || !r.seen[key] {
		r.seen[key] = true
		for _, value := range values {
			r.stored = append(r.stored, value)
		}
	}
	if r.fails.Add(-1) >= 0 {
		w.Header().Set("Retry-After", "0")
		w.WriteHeader(http.StatusTooManyRequests)
	}
}

func TestSinkConformance(t *testing.T) {
	for _, test := range []struct{ layout, compression string }{{"lines", "none"}, {"array", "gzip"}, {"single", "none"}} {
		t.Run(test.layout, func(t *testing.T) {
			connectortest.Sink(t, func(t *testing.T) connectortest.SinkHarness {
				target := &receiver{seen: map[string]bool{}, layout: test.layout}
				target.fails.Store(2)
				server := httptest.NewServer(target)
				t.Cleanup(server.Close)
				spec := Sink()
				return connectortest.SinkHarness{
					Common: connectortest.Common{
						Spec: spec, Env: connectortest.NewEnv(t, spec, backend.Binding{}),
						Config:            map[string]any{"url": server.URL, "layout": test.layout, "compression": test.compression},
						BadConfigs:        map[string]string{`{}`: "url", `{"url":"x"}`: "url", `{"url":"http://x","layout":"rows"}`: "layout", `{"url":"http://x","timeout":"1"}`: "timeout"},
						UnreachableConfig: map[string]any{"url": "http://127.0.0.1:1/", "retries": 1},
					},
					Stored: func(testing.TB) [][]byte {
						target.mu.Lock()
						defer target.mu.Unlock()
						return append([][]byte(nil), target.stored...)
					},
					Refused: []byte(`{"n":1,"text":"CONFIDENTIAL"}`),
					Ordered: true, Idempotent: true,
				}
			})
		})
	}
}

func get(t *testing.T, cfg SourceConfig, b backend.Binding) (*record.Batch, error) {
	t.Helper()
	none := 0
	cfg.Retries = &none
	source, err := openSource(t.Context(), cfg, connectortest.NewEnv(t, Source(), b))
	if err != nil {
		return nil, err
	}
	defer source.Close(t.Context()) //nolint:errcheck // a test
	return source.Read(t.Context())
}

func TestPrivateAddressesAreRefused(t *testing.T) {
	t.Setenv(dialguard.Variable, "")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }))
	defer server.Close()
	for _, target := range []string{server.URL, strings.Replace(server.URL, "127.0.0.1", "localhost", 1), "http://169.254.169.254/latest/meta-data", "http://[::ffff:10.0.0.1]/"} {
		start := time.Now()
		_, err := get(t, SourceConfig{Request: Request{URL: target}}, backend.Binding{})
		if !errors.Is(err, backend.ErrAuth) || !strings.Contains(err.Error(), "not allowed") || time.Since(start) > 5*time.Second {
			t.Errorf("%s: %v, want a refusal without a retry", target, err)
		}
	}
}

// Redirects and links to another host are not followed, because credentials would be sent along.
func TestOtherHostsAreRefused(t *testing.T) {
	var leaked atomic.Bool
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { leaked.Store(true) }))
	defer other.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/redirect":
			http.Redirect(w, r, other.URL, http.StatusFound)
		case "/within":
			http.Redirect(w, r, "/", http.StatusFound)
		case "/link":
			w.Header().Set("Link", "<"+other.URL+">; rel=next")
			_, _ = io.WriteString(w, "{}")
		default:
			_, _ = io.WriteString(w, `{"auth":`+strconv.Quote(r.Header.Get("Authorization"))+`}`)
		}
	}))
	defer server.Close()
	binding := backend.Binding{Type: "http", URI: server.URL + "/", Extra: map[string]string{"token": "t0ken-t0ken-t0ken"}}
	for _, path := range []string{"redirect", "link"} {
		if _, err := get(t, SourceConfig{Request: Request{URL: path}, Pagination: &Pagination{Type: "link"}}, binding); !errors.Is(err, backend.ErrAuth) {
			t.Errorf("%s: %v, want a refusal", path, err)
		}
	}
	batch, err := get(t, SourceConfig{Request: Request{URL: "within"}}, binding)
	if err != nil {
		t.Fatal(err)
	}
	if data, _ := batch.Records[0].Bytes(); string(data) != `{"auth":"Bearer t0ken-t0ken-t0ken"}` {
		t.Errorf("got %s", data)
	}
	if _, err := get(t, SourceConfig{Request: Request{URL: other.URL}}, binding); !errors.Is(err, backend.ErrInvalid) {
		t.Errorf("credentials to another host: %v", err)
	}
	if leaked.Load() {
		t.Error("a request went to the other host")
	}
}

func TestStatuses(t *testing.T) {
	for status, want := range map[int]error{400: backend.ErrInvalid, 413: backend.ErrInvalid, 422: backend.ErrInvalid, 401: backend.ErrAuth, 403: backend.ErrAuth,
		404: backend.ErrNotFound, 408: backend.ErrUnavailable, 429: backend.ErrUnavailable, 500: backend.ErrUnavailable, 503: backend.ErrUnavailable, 302: backend.ErrUnavailable} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "CONFIDENTIAL")
		}))
		none := 0
		s, err := openSink(t.Context(), SinkConfig{Request: Request{URL: server.URL + "/?key=CONFIDENTIAL", Retries: &none}}, connectortest.NewEnv(t, Sink(), backend.Binding{}))
		if err != nil {
			t.Fatal(err)
		}
		err = s.Write(t.Context(), &record.Batch{Records: []record.Record{record.New([]byte("{}"))}})
		if !errors.Is(err, want) || strings.Contains(err.Error(), "CONFIDENTIAL") {
			t.Errorf("status %d: %v, want %v", status, err, want)
		}
		server.Close()
	}
}

func TestAnswers(t *testing.T) {
	for _, test := range []struct {
		name, answer, records string
		want                  int
		fails                 bool
	}{
		{"pretty object", "{\n \"a\": 1\n}", "", 1, false},
		{"array", `[{"a":1},{"a":2}]`, "", 2, false},
		{"lines", "{\"a\":1}\n{\"a\":2}\n", "", 2, false},
		{"object at a path", `{"d":{"a":1}}`, "d", 1, false},
		{"number at a path", `{"d":7}`, "d", 0, true},
		{"an error page", `<html>CONFIDENTIAL</html>`, "d", 0, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, test.answer) }))
			defer server.Close()
			batch, err := get(t, SourceConfig{Request: Request{URL: server.URL}, Records: test.records}, backend.Binding{})
			if (err != nil) != test.fails || (err != nil && strings.Contains(err.Error(), "CONFIDENTIAL")) {
				t.Fatalf("error %v, want one: %v", err, test.fails)
			}
			if err == nil && batch.Len() != test.want {
				t.Errorf("%d records, want %d", batch.Len(), test.want)
			}
		})
	}
	watch := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"d":[]}`) }))
	defer server.Close()
	if _, err := get(t, SourceConfig{Request: Request{URL: server.URL}, Records: "d", Watch: &watch}, backend.Binding{}); !errors.Is(err, connector.ErrFinished) {
		t.Errorf("no records: %v, want connector.ErrFinished", err)
	}
	big := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1<<20)) }))
	defer big.Close()
	if _, err := get(t, SourceConfig{Request: Request{URL: big.URL}, MaxBytes: 1024}, backend.Binding{}); err == nil {
		t.Error("a response above maxBytes was accepted")
	}
}
