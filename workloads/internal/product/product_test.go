// SPDX-License-Identifier: Apache-2.0

package product

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/server"
)

func TestMain(m *testing.M) { servers.Main(m) }

// greeter is a minimal product.
type greeter struct{}

func (greeter) Register(rest huma.API) {
	huma.Register(rest, huma.Operation{OperationID: "greet", Method: http.MethodGet, Path: "/api/v1/greeting", Security: []map[string][]string{}},
		func(context.Context, *struct{}) (*struct{ Body string }, error) {
			return &struct{ Body string }{"hello"}, nil
		})
}

func (greeter) Collector() prometheus.Collector {
	return prometheus.NewGauge(prometheus.GaugeOpts{Name: "itechsmart_greeter", Help: "One."})
}

var migrations = fstest.MapFS{"00001_greeter.sql": {Data: []byte("-- +goose Up\nCREATE TABLE greetings (text text);\n-- +goose Down\nDROP TABLE greetings;\n")}}

func configuration(t *testing.T) *config.Service {
	t.Helper()
	b, schema := servers.Schema(t)
	identity := servers.SchemaOn(t, b)
	key := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32)))
	return &config.Service{
		Product: "greeter", Platform: "main", Namespace: "shop",
		Database: config.Database{Binding: b.Data(), Schema: schema, MinConnections: 1, MaxConnections: 4},
		Identity: config.Database{Binding: b.Data(), Schema: identity, MinConnections: 1, MaxConnections: 4},
		Auth:     config.Auth{Issuer: "https://shop.example.com", Keys: []config.Key{{ID: "k", Algorithm: "HS256", Secret: key}}},
	}
}

func process(t *testing.T, assemble func(context.Context, *Parts) (Service, error)) (p *Process, listening chan string) {
	t.Helper()
	listening = make(chan string, 1)
	return &Process{
		Product: Product{Name: "greeter", Title: "Greeter", Migrations: migrations, Assemble: assemble},
		Config:  configuration(t), Addr: "127.0.0.1:0", SpillDir: t.TempDir(), Lines: io.Discard, HashCost: 4, DrainDelay: -1,
		Log: slog.New(slog.DiscardHandler), Listening: func(address, _ string) { listening <- address },
	}, listening
}

// A start that fails because of the database is retried after closing what it had opened, and the end closes the rest.
func TestStartIsRetried(t *testing.T) {
	var steps []string // of one goroutine at a time: the start's, then the end's
	tries := 0
	p, listening := process(t, func(_ context.Context, parts *Parts) (Service, error) {
		tries++
		name := fmt.Sprint(tries)
		steps = append(steps, "open "+name)
		parts.Closer(func() { steps = append(steps, "close "+name) })
		if tries == 1 {
			return nil, fmt.Errorf("database: %w", context.DeadlineExceeded)
		}
		return greeter{}, nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	address := "http://" + <-listening
	for status := 0; status != http.StatusOK; {
		response, err := http.Get(address + "/api/v1/greeting")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		status = response.StatusCode
		if status != http.StatusServiceUnavailable && (status != http.StatusOK || !strings.Contains(string(body), "hello")) {
			t.Fatalf("%d %s %v", status, body, err)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if want := []string{"open 1", "close 1", "open 2", "close 2"}; !slices.Equal(steps, want) {
		t.Errorf("%v, want %v", steps, want)
	}
}

// An error that no retry can fix ends the process.
func TestWrongConfigurationEnds(t *testing.T) {
	wrong := errors.New("greeting: no such language")
	p, _ := process(t, func(context.Context, *Parts) (Service, error) { return nil, wrong })
	if err := p.Run(t.Context()); !errors.Is(err, wrong) {
		t.Errorf("%v, want %v", err, wrong)
	}
}

// Keys that this version does not know are logged once, by their paths, and do not end the process; a part of the wrong
// type does.
func TestUnknownKeys(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, config.FileName), []byte(`{"product":"greeter","newer":"canary","settings":{"text":"hello","newest":"canary"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	type own struct {
		Text string `json:"text"`
	}
	var settings own
	p := Process{Version: "1.2.3", Product: Product{Name: "greeter", Configure: func(c *config.Service) (unknown []string, err error) {
		settings, unknown, err = config.Settings[own](c)
		return unknown, err
	}}}
	if err := p.load(dir, ""); err != nil {
		t.Fatal(err)
	}
	var logged strings.Builder
	p.Log = slog.New(slog.NewJSONHandler(&logged, nil))
	if err := p.configure(); err != nil || settings.Text != "hello" {
		t.Fatalf("%+v, %v", settings, err)
	}
	if line := logged.String(); strings.Count(line, "\n") != 1 || !strings.Contains(line, `["newer","settings.newest"]`) || strings.Contains(line, "canary") || !strings.Contains(line, "1.2.3") {
		t.Errorf("logged %q", line)
	}
	logged.Reset()
	p.Unknown, p.Config.Settings = nil, json.RawMessage(`{"text":"hello"}`)
	if err := p.configure(); err != nil || logged.Len() > 0 {
		t.Errorf("without unknown keys: %v, logged %q", err, logged.String())
	}
	p.Config.Settings = json.RawMessage(`{"text":1}`)
	if err := p.configure(); err == nil {
		t.Error("a wrong type was accepted")
	}
}

// A start waits for the resources for a limited time, and logs the consequence.
func TestAwaitResources(t *testing.T) {
	var logged strings.Builder
	parts := &Parts{Log: slog.New(slog.NewTextHandler(&logged, nil))}
	known := func(context.Context) bool { return true }
	if err := parts.AwaitResources(t.Context(), known, "nobody is greeted"); err != nil || logged.Len() > 0 {
		t.Errorf("known: %v, logged %q", err, logged.String())
	}
	late := func(ctx context.Context) bool { _, limited := ctx.Deadline(); return !limited }
	if err := parts.AwaitResources(t.Context(), late, "nobody is greeted"); err != nil || !strings.Contains(logged.String(), "nobody is greeted") {
		t.Errorf("late: %v, logged %q", err, logged.String())
	}
	logged.Reset()
	life, end := context.WithCancel(t.Context())
	end()
	if err := parts.AwaitResources(life, late, "nobody is greeted"); !errors.Is(err, context.Canceled) || logged.Len() > 0 {
		t.Errorf("ended: %v, logged %q", err, logged.String())
	}
}

func TestDerive(t *testing.T) {
	p, _ := process(t, nil)
	keys := map[string]bool{}
	for _, purpose := range []string{"audit", "cursors"} {
		one, err := p.derive(purpose)
		if err != nil {
			t.Fatal(err)
		}
		two, _ := p.derive(purpose)
		if len(one) != 32 || string(one) != string(two) {
			t.Errorf("%s: two replicas have different keys", purpose)
		}
		keys[string(one)] = true
	}
	p.Product.Name = "other"
	other, err := p.derive("audit")
	if err != nil || keys[string(other)] || len(keys) != 2 {
		t.Errorf("products or purposes share a key (%v)", err)
	}
	p.Config.Auth.Keys = nil
	if _, err := p.derive("audit"); err == nil {
		t.Error("a key was derived from nothing")
	}
}

func TestOtherProductsConfiguration(t *testing.T) {
	dir := t.TempDir()
	data, err := json.Marshal(config.Service{Product: "vault"})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, config.FileName), data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	p := Process{Product: Product{Name: "greeter"}, Log: server.NewLogger("error")}
	if err := p.load(dir, ""); err == nil || !strings.Contains(err.Error(), `"vault"`) {
		t.Errorf("%v, want an error about another product's configuration", err)
	}
}
