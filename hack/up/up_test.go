// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/itechsmart/operator/hack/programs"
	"github.com/itechsmart/operator/internal/backend"
)

func TestTableReader(t *testing.T) {
	answers := map[string]struct {
		status int
		body   string
		want   int64
		fails  string
	}{
		"rows":          {http.StatusOK, "2999999\n", 2_999_999, ""},
		"no table":      {http.StatusNotFound, "Code: 60. DB::Exception: Unknown table\n", 0, "Unknown table"},
		"not a number":  {http.StatusOK, "many\n", 0, "many"},
		"wrong account": {http.StatusForbidden, "Authentication failed", 0, "403"},
	}
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("X-ClickHouse-User") != "ada" || r.Header.Get("X-ClickHouse-Key") != "pass word" || strings.Contains(r.URL.String(), "pass") {
					t.Error("the credentials are not only in the headers")
				}
				if got := r.URL.Query().Get("query"); got != "SELECT count() FROM a.b" {
					t.Errorf("query %q", got)
				}
				w.WriteHeader(answer.status)
				_, _ = w.Write([]byte(answer.body))
			}))
			defer server.Close()
			address, err := url.Parse(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			table := newTableReader(backend.Binding{Host: address.Hostname(), Port: address.Port(), Username: "ada", Password: "pass word"}, "a.b")
			defer table.close()
			rows, err := table.count(t.Context())
			if answer.fails == "" && (err != nil || rows != answer.want) {
				t.Errorf("got %d, %v; want %d", rows, err, answer.want)
			}
			if answer.fails != "" && (err == nil || !strings.Contains(err.Error(), answer.fails)) {
				t.Errorf("got %v, want an error containing %q", err, answer.fails)
			}
		})
	}
}

func TestLastLine(t *testing.T) {
	var log bytes.Buffer
	var shown []string
	output := &lastLine{to: &log, show: func(text string) { shown = append(shown, text) }}
	for _, part := range []string{"one\ntw", "o\n", "\n", "three\nfour\nfi"} {
		if _, err := output.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(shown, "|"); got != "one|two|four" {
		t.Errorf("shown %q", got)
	}
	if log.String() != "one\ntwo\n\nthree\nfour\nfi" {
		t.Errorf("logged %q", log.String())
	}
}

func TestImages(t *testing.T) {
	root := t.TempDir()
	u, err := newUp(root)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, ".local", "images")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	note, err := json.Marshal(map[string]any{"name": "kafka", "ref": "docker.io/itechsmart/kafka:4", "digest": "sha256:1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "kafka.json"), note, 0o600); err != nil {
		t.Fatal(err)
	}
	images, err := u.images()
	if err != nil || images["kafka"].Ref != "docker.io/itechsmart/kafka:4" {
		t.Errorf("got %v, %v", images, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "broken.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := u.images(); err == nil || !strings.Contains(err.Error(), "broken.json") {
		t.Errorf("got %v, want an error naming the file", err)
	}
}

func TestChartValues(t *testing.T) {
	list := []programs.Program{
		{Name: "manager", Kind: programs.Manager}, {Name: "vault", Kind: programs.Service},
		{Name: "vaultctl", Kind: programs.Tool}, {Name: "workflow-worker", Kind: programs.Worker},
	}
	images := map[string]image{}
	for _, name := range []string{"manager", "vault", "workflow-worker", "postgres", "kafka", "clickhouse", "redis", "rabbitmq"} {
		images[name] = image{Name: name, Ref: "docker.io/itechsmart/" + name + ":dev", Digest: "sha256:" + name}
	}
	values, err := chartValues(list, images)
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"backends":{"images":{"clickhouse":"docker.io/itechsmart/clickhouse:dev","kafka":"docker.io/itechsmart/kafka:dev",` +
		`"postgresql":"docker.io/itechsmart/postgres:dev","rabbitmq":"docker.io/itechsmart/rabbitmq:dev","redis":"docker.io/itechsmart/redis:dev"}},` +
		`"images":{"registry":"docker.io/itechsmart","tag":"dev"},"podAnnotations":{"itechsmart.dev/image":"sha256:manager"}}`
	if string(got) != want {
		t.Errorf("got %s", got)
	}
	for _, missing := range []string{"vault", "redis"} {
		some := maps.Clone(images)
		delete(some, missing)
		if _, err := chartValues(list, some); err == nil || !strings.Contains(err.Error(), missing) {
			t.Errorf("without %s: %v", missing, err)
		}
	}
	images["vault"] = image{Name: "vault", Ref: "docker.io/itechsmart/vault:v2"}
	if _, err := chartValues(list, images); err == nil || !strings.Contains(err.Error(), "vault:v2") {
		t.Errorf("two tags: %v", err)
	}
}

func TestResources(t *testing.T) {
	const list = `{"items": [
		{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "quickstart"}},
		{"apiVersion": "platform.itechsmart.dev/v1alpha1", "kind": "Platform", "metadata": {"name": "main", "generation": 2},
		 "status": {"observedGeneration": 2, "backends": [{"name": "kafka", "ready": true}, {"name": "redis", "ready": false}],
		            "conditions": [{"type": "Ready", "status": "True", "reason": "Ready", "message": "all is up"}]}},
		{"apiVersion": "vault.itechsmart.dev/v1alpha1", "kind": "VaultService", "metadata": {"name": "vault", "generation": 3},
		 "status": {"observedGeneration": 2, "conditions": [{"type": "Ready", "status": "True", "reason": "Ready", "message": "of the last generation"}]}},
		{"apiVersion": "dataflow.itechsmart.dev/v1alpha1", "kind": "Pipeline", "metadata": {"name": "flights", "generation": 1}}]}`
	found, err := parseResources([]byte(list))
	if err != nil {
		t.Fatal(err)
	}
	if got := describeAll(found); got != "Platform main ✓  VaultService vault …  Pipeline flights …" {
		t.Errorf("all: %q", got)
	}
	if got := describeBackends(found); got != "kafka ✓  redis …" {
		t.Errorf("backends: %q", got)
	}
	if got := unready(found); got != "VaultService vault Ready: of the last generation" {
		t.Errorf("unready: %q", got)
	}
	if got := unready(found[2:]); got != "Pipeline flights no condition Ready yet" {
		t.Errorf("without conditions: %q", got)
	}
	if got := unready(found[:1]); got != "" {
		t.Errorf("a Platform that is Ready: %q", got)
	}
	if _, err := parseResources([]byte(`{"items": []}`)); err == nil {
		t.Error("an empty list counts as Ready")
	}
}

func TestTogether(t *testing.T) {
	u, err := newUp(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var shown []string
	u.show = func(text string) { shown = append(shown, text) }
	said := make(chan struct{})
	failed := errors.New("no disk")
	err = u.together(t.Context(), func(ctx context.Context, u *up) error {
		u.show("412 of 1,930 packages")
		close(said)
		<-ctx.Done() // the failure of the other task ends this one
		return ctx.Err()
	}, func(_ context.Context, u *up) error {
		<-said
		u.show("redis: downloading")
		return failed
	})
	if !errors.Is(err, failed) {
		t.Errorf("got %v, want %v", err, failed)
	}
	if len(shown) < 2 || shown[0] != "412 of 1,930 packages" || shown[1] != "412 of 1,930 packages  |  redis: downloading" {
		t.Errorf("shown %q", shown)
	}
}

func TestLock(t *testing.T) {
	u, err := newUp(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	first, err := u.lock()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.lock(); err == nil {
		t.Error("two at a time")
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := u.lock()
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

func TestBar(t *testing.T) {
	for rows, want := range map[int64]int{0: 0, flightsTotal / 2: 12, flightsTotal: 24, 2 * flightsTotal: 24} {
		if got := strings.Count(bar(rows), "█"); got != want {
			t.Errorf("%d rows: %d of 24, want %d", rows, got, want)
		}
	}
}
