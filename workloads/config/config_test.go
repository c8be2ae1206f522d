// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// full has a value in every part of a file.
func full() Service {
	return Service{
		Product: "vault", Platform: "main", Namespace: "shop", Generation: 3,
		Database: Database{Binding: map[string]string{"host": "db", "port": "5432"}, Schema: "vault", MinConnections: 1, MaxConnections: 2},
		Identity: Database{Schema: "identity"}, Redis: map[string]string{"host": "cache"},
		Auth: Auth{
			Issuer: "https://shop.example.com", Keys: []Key{{"k1", "HS256", "c2VjcmV0"}}, AccessTTL: Duration(time.Hour), OpenRegistration: true,
			Administrator: &Administrator{"root@example.com", "x"}, Clients: []Client{{ID: "app", RedirectURIs: []string{"https://app.example.com"}}},
			ServiceAccounts: []ServiceAccount{{"shop/*", "viewer"}},
		},
		RateLimit: RateLimit{RequestsPerMinute: 7, FailOpen: true}, CORS: CORS{Origins: []string{"https://console.example.com"}},
		Audit: Audit{Retention: Duration(24 * time.Hour), SpillBytes: 1 << 20}, TrustedProxies: []string{"10.0.0.0/8"}, LogLevel: "debug", Vault: &Vault{Shares: 5, Threshold: 3},
	}
}

func TestLoadRefuses(t *testing.T) {
	good, err := json.Marshal(full())
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"nothing": "", "no JSON": "canary", "unknown key": `{"product":"vault","canary":1}`, "two documents": string(good) + "{}", "text after it": string(good) + "x",
		"a number for a text": `{"product":1}`, "no duration": `{"auth":{"accessTTL":"soon"}}`, "a list": "[]",
	} {
		if s, err := load(t, []byte(text)); err == nil || s != nil || !strings.Contains(err.Error(), FileName) {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
	if _, err := Load(t.TempDir()); err == nil {
		t.Error("a directory without the file is accepted")
	}
}

// FuzzLoad: what Load accepts is one JSON object of known keys, and comes back the same.
func FuzzLoad(f *testing.F) {
	data, err := json.Marshal(full())
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{string(data), "{}", "null", "[]", "", `{"auth":{"accessTTL":"-1h"}}`, `{"auth":{"accessTTL":"1h","accessTTL":""}}`, `{}{}`, `{"Product":"a"}`, `{"vault":null}`, "{\"product\":\"\xff\"}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := load(t, data)
		if err != nil {
			return
		}
		if !json.Valid(data) {
			t.Fatalf("%q is accepted", data)
		}
		once, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		again, err := load(t, once)
		if err != nil {
			t.Fatalf("%s: %v", once, err)
		}
		if twice, err := json.Marshal(again); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%s comes back as %s, %v", once, twice, err)
		}
	})
}

func load(t *testing.T, data []byte) (*Service, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, FileName), data, 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(dir)
}
