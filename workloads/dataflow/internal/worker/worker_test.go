// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/itechsmart/operator/workloads/dataflow/internal/server"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

// example generates ten records and discards them.
func example() *config.Pipeline {
	return &config.Pipeline{
		Namespace: "shop", Name: "orders", Generation: 3, ConsumerGroup: "shop-orders", Delivery: config.AtLeastOnce, MaxRecordBytes: 1 << 20,
		Batching: config.Batching{Count: 100, Bytes: 1 << 20, Period: config.Duration(10 * time.Millisecond)},
		Sources:  []config.Source{{Name: "made", Type: "generate", Config: json.RawMessage(`{"count":10}`)}},
		Sinks:    []config.Sink{{Name: "gone", Type: "drop"}},
	}
}

func save(t *testing.T, dir string, cfg *config.Pipeline) string {
	t.Helper()
	data, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, config.FileName)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*config.Pipeline)
		test string // of the first failure
		want string // in its message; "": no failure
	}{
		{"valid", func(*config.Pipeline) {}, "", ""},
		{"unknown type", func(p *config.Pipeline) { p.Sinks[0].Type = "dorp" }, "", "sinks[0].type"},
		{"unknown key", func(p *config.Pipeline) { p.Sources[0].Config = json.RawMessage(`{"cuont":1}`) }, "", "sources[0].config"},
		{"bad expression", func(p *config.Pipeline) {
			p.Transforms = []config.Transform{{Name: "f", Type: "filter", When: "this.a +"}}
		}, "", "transforms[0].when"},
		{"passing test", func(p *config.Pipeline) {
			p.Transforms = []config.Transform{{Name: "f", Type: "filter", When: "this.a > 1"}}
			p.Tests = []config.Test{{Name: "keeps large", Input: []json.RawMessage{[]byte(`{"a":1}`), []byte(`{"a":2}`)}, Expect: []json.RawMessage{[]byte(`{"a":2}`)}}}
		}, "", ""},
		{"failing test", func(p *config.Pipeline) {
			p.Transforms = []config.Transform{{Name: "f", Type: "filter", When: "this.a > 1"}}
			p.Tests = []config.Test{{Name: "keeps all", Input: []json.RawMessage{[]byte(`{"a":1}`)}, Expect: []json.RawMessage{[]byte(`{"a":1}`)}}}
		}, "keeps all", "got no record"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := example()
			c.edit(cfg)
			dir := t.TempDir()
			log := filepath.Join(dir, "termination-log")
			if err := os.WriteFile(log, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			err := runCheck(flags{config: save(t, dir, cfg)}, &out, log)
			if (err != nil) != (c.want != "") {
				t.Errorf("error %v", err)
			}
			var result, last CheckResult
			if err := json.Unmarshal(out.Bytes(), &result); err != nil {
				t.Fatalf("output %q: %v", out.String(), err)
			}
			words, err := os.ReadFile(log)
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(words, &last); err != nil || last.OK != result.OK || len(last.Failures) != len(result.Failures) {
				t.Errorf("last words %q: %v", words, err)
			}
			if result.OK != (c.want == "") {
				t.Fatalf("result %+v", result)
			}
			if c.want != "" && (result.Failures[0].Test != c.test || !strings.Contains(result.Failures[0].Message, c.want)) {
				t.Errorf("failures %+v, want %q in one of test %q", result.Failures, c.want, c.test)
			}
		})
	}
}

func TestTerminationMessageFitsAndIsValid(t *testing.T) {
	var result CheckResult
	for i := range 100 {
		result.Failures = append(result.Failures, CheckFailure{Test: fmt.Sprint(i), Message: strings.Repeat("é", 700)})
	}
	data := fitted(result, terminationLogBytes)
	var back CheckResult
	if err := json.Unmarshal(data, &back); err != nil || len(data) > terminationLogBytes || len(back.Failures) < 2 {
		t.Errorf("%d bytes, %d failures, %v", len(data), len(back.Failures), err)
	}
}

// TestWatch replaces the file as kubelet does: a new directory, and a symbolic link that is renamed over the
// old one.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	publish := func(version string, cfg *config.Pipeline) {
		t.Helper()
		data := filepath.Join(dir, ".."+version)
		if err := os.Mkdir(data, 0o700); err != nil {
			t.Fatal(err)
		}
		save(t, data, cfg)
		link := filepath.Join(dir, "..data_tmp")
		if err := os.Symlink(".."+version, link); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(link, filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	cfg := example()
	cfg.Connections = map[string]map[string]string{"k": {"password": "one"}}
	publish("1", cfg)
	path := filepath.Join(dir, config.FileName)
	if err := os.Symlink(filepath.Join("..data", config.FileName), path); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	got := make(chan map[string]map[string]string, 10)
	started, _, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	watching := make(chan struct{})
	go watch(ctx, path, started, slog.New(&firstLine{Handler: slog.DiscardHandler, seen: watching}), func(c map[string]map[string]string) { got <- c })

	<-watching
	other := *cfg
	other.Connections = map[string]map[string]string{"k": {"password": "two"}}
	publish("2", &other)
	select {
	case c := <-got:
		if c["k"]["password"] != "two" {
			t.Errorf("got %v", c)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the change was not detected")
	}
}

// firstLine records that a logger was used.
type firstLine struct {
	slog.Handler
	seen chan struct{}
}

func (h *firstLine) Enabled(context.Context, slog.Level) bool { return true }
func (h *firstLine) Handle(context.Context, slog.Record) error {
	select {
	case <-h.seen:
	default:
		close(h.seen)
	}
	return nil
}

func TestServerShowsNoCredential(t *testing.T) {
	cfg := example()
	cfg.Connections = map[string]map[string]string{"k": {"password": "s3cret-word"}}
	e, err := NewEngine(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	handler, err := server.Handler(e, server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(handler)
	defer web.Close()
	get := func(path string) (int, string) {
		t.Helper()
		response, err := http.Get(web.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(body)
	}
	if code, body := get(config.ReadyPath); code != http.StatusServiceUnavailable || !strings.Contains(body, "made (generate) is Connecting") {
		t.Errorf("ready before the start: %d %s", code, body)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	<-e.Done()
	for path, want := range map[string]string{
		config.HealthPath: "ok", config.ReadyPath: "ok", config.StatusPath: `"finished":true`,
		config.MetricsPath: `dataflow_source_records_total{source="made"} 10`,
	} {
		code, body := get(path)
		if code != http.StatusOK || !strings.Contains(body, want) || strings.Contains(body, "s3cret-word") {
			t.Errorf("%s: %d %.2000s", path, code, body)
		}
	}
	if code, _ := get("/debug/pprof/"); code != http.StatusNotFound {
		t.Errorf("pprof responds with %d although it is disabled", code)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}
