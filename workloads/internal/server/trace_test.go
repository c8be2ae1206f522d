// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/itechsmart/operator/workloads/config"
)

func TestTraces(t *testing.T) {
	t.Run("from the environment", func(t *testing.T) {
		testTraces(t, func(endpoint string, _ *Options) { t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint) })
	})
	t.Run("from the options", func(t *testing.T) {
		testTraces(t, func(endpoint string, o *Options) {
			o.Tracing = &config.Tracing{Endpoint: endpoint + "/", SamplePercent: 1}
		})
	})
}

func testTraces(t *testing.T, configure func(endpoint string, o *Options)) {
	t.Helper()
	var mu sync.Mutex
	var spans bytes.Buffer
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if _, err := io.Copy(&spans, r.Body); err != nil || r.URL.Path != "/v1/traces" {
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	defer collector.Close()
	log := &logs{}
	o := options(log)
	configure(collector.URL, &o)
	s := New(o)
	s.Mount(echo())
	r := run(t, s)
	const parent = "0af7651916cd43dd8448eb211c80319c"
	g := fetch(t, http.MethodPost, r.url+"/things/1?token=canary", strings.Repeat("a", DefaultMaxBodyBytes+1), "traceparent", "00-"+parent+"-b7ad6b7169203331-01")
	if g.status != http.StatusRequestEntityTooLarge {
		t.Errorf("a body over the limit: %d", g.status)
	}
	fetch(t, http.MethodPost, r.url+"/things/1", "abc", "traceparent", "00-"+parent+"-b7ad6b7169203331-01")
	fetch(t, http.MethodGet, r.url+config.HealthPath, "")
	r.stop()
	if err := <-r.done; err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	text := spans.String()
	for _, want := range []string{"service.name", "test", "POST /things/{id}", "request.id"} {
		if !strings.Contains(text, want) {
			t.Errorf("the spans lack %s", want)
		}
	}
	for _, not := range []string{"canary", config.HealthPath} {
		if strings.Contains(text, not) {
			t.Errorf("the spans contain %s", not)
		}
	}
	if !strings.Contains(log.String(), `"traceID":"`+parent+`"`) {
		t.Error("the log does not name the trace")
	}
}

func TestCollectorDown(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "100")
	s := New(options(&logs{}))
	s.Mount(echo())
	r := run(t, s)
	if g := fetch(t, http.MethodGet, r.url+"/ip", ""); g.status != http.StatusOK {
		t.Errorf("without the collector: %d", g.status)
	}
	r.stop()
	if err := <-r.done; err != nil {
		t.Error(err)
	}
}
