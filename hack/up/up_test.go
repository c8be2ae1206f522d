// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
					t.Error("the credentials are not in the headers alone")
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
				t.Errorf("got %v, want an error with %q", err, answer.fails)
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
	if err := u.installOperator(t.Context()); err == nil || !strings.Contains(err.Error(), "manager") {
		t.Errorf("got %v, want an error that names the image manager", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "broken.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := u.images(); err == nil || !strings.Contains(err.Error(), "broken.json") {
		t.Errorf("got %v, want an error that names the file", err)
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
