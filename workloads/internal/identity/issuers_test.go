// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/auth"
)

// ciSystem signs tokens, and publishes its keys like OpenID Connect.
type ciSystem struct {
	*httptest.Server
	requests atomic.Int64
	down     atomic.Bool
}

func newCI(t *testing.T) *ciSystem {
	t.Helper()
	ci := &ciSystem{}
	ci.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ci.requests.Add(1)
		if ci.down.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		var answer any = map[string]any{"issuer": ci.URL, "jwks_uri": ci.URL + "/keys", "id_token_signing_alg_values_supported": []string{"RS256"}}
		if r.URL.Path == "/keys" {
			answer = jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: rsaKey().Public(), KeyID: "ci-1", Algorithm: "RS256", Use: "sig"}}}
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(ci.Close)
	return ci
}

func (ci *ciSystem) settings() []config.Issuer {
	return []config.Issuer{{URL: ci.URL, Audience: issuer, Callers: []config.Caller{
		{Name: "main", Claims: map[string]string{"sub": "repo:acme/*", "ref": "refs/heads/main"}, Role: "editor"},
		{Name: "any", Claims: map[string]string{"groups": "build*"}, Role: "viewer"},
	}}}
}

func (ci *ciSystem) claims(change map[string]any) map[string]any {
	claims := map[string]any{"iss": ci.URL, "aud": issuer, "sub": "repo:acme/shop", "ref": "refs/heads/main", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix()}
	for name, value := range change {
		claims[name] = value
	}
	return claims
}

func TestIssuers(t *testing.T) {
	ci := newCI(t)
	all, err := newIssuers(ci.settings(), "team-a", ci.Client())
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(key any, id string, change map[string]any) string {
		return forge(t, jose.RS256, key, map[string]any{"kid": id}, ci.claims(change))
	}
	good := sign(rsaKey(), "ci-1", nil)
	p, err := all.find(good).authenticate(t.Context(), good)
	if err != nil || p.Kind != auth.KindClient || p.Name != "main" || p.ID != ci.URL+"#repo:acme/shop" || p.RoleOn("vault", "team-a") != auth.RoleEditor || p.RoleOn("vault", "team-b") != auth.RoleNone {
		t.Fatalf("%+v %v", p, err)
	}
	grouped := sign(rsaKey(), "ci-1", map[string]any{"ref": "refs/heads/topic", "groups": []string{"people", "builders"}})
	if p, err := all.find(grouped).authenticate(t.Context(), grouped); err != nil || p.Name != "any" || p.RoleOn("vault", "team-a") != auth.RoleViewer {
		t.Errorf("a claim that is a list: %+v %v", p, err)
	}
	before := ci.requests.Load()
	unsigned := segment(t, map[string]any{"alg": "none"}) + "." + segment(t, ci.claims(nil)) + "."
	for name, token := range map[string]string{
		"another audience":           sign(rsaKey(), "ci-1", map[string]any{"aud": "elsewhere"}),
		"expired":                    sign(rsaKey(), "ci-1", map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}),
		"not yet valid":              sign(rsaKey(), "ci-1", map[string]any{"nbf": time.Now().Add(time.Hour).Unix()}),
		"unknown claims":             sign(rsaKey(), "ci-1", map[string]any{"sub": "repo:evil/acme/"}),
		"a claim of other type":      sign(rsaKey(), "ci-1", map[string]any{"ref": 7}),
		"a stranger's key":           sign(stranger, "ci-1", nil),
		"no signature":               unsigned,
		"the public key as a secret": forge(t, jose.HS256, []byte(strings.Repeat("public", 8)), map[string]any{"kid": "ci-1"}, ci.claims(nil)),
	} {
		p, err := all.find(token).authenticate(t.Context(), token)
		// An unknown key may be a new one, and the issuer may have been asked a moment ago.
		unknown := name == "a stranger's key" && errors.Is(err, auth.ErrUnavailable)
		if !unknown && !errors.Is(err, auth.ErrInvalidToken) {
			t.Errorf("%s: %+v %v", name, p, err)
		}
	}
	for range 50 {
		token := sign(rsaKey(), "made-up", nil)
		if _, err := all.find(token).authenticate(t.Context(), token); err == nil {
			t.Fatal("an unknown key verifies")
		}
	}
	if n := ci.requests.Load() - before; n > 10 {
		t.Errorf("tokens of unknown keys caused %d requests", n)
	}
	if all.find(sign(rsaKey(), "ci-1", map[string]any{"iss": "https://other.example.com"})) != nil || all.find("a.b.c") != nil {
		t.Error("an issuer that is not configured")
	}
}

// An unavailable issuer does not make its tokens invalid; the known keys remain in use.
func TestIssuerUnavailable(t *testing.T) {
	ci := newCI(t)
	all, err := newIssuers(ci.settings(), "team-a", ci.Client())
	if err != nil {
		t.Fatal(err)
	}
	token := forge(t, jose.RS256, rsaKey(), map[string]any{"kid": "ci-1"}, ci.claims(nil))
	ci.down.Store(true)
	if _, err := all.find(token).authenticate(t.Context(), token); !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	fresh, err := newIssuers(ci.settings(), "team-a", ci.Client())
	if err != nil {
		t.Fatal(err)
	}
	ci.down.Store(false)
	if _, err := fresh.find(token).authenticate(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	ci.down.Store(true)
	if _, err := fresh.find(token).authenticate(t.Context(), token); err != nil {
		t.Errorf("its keys were discarded: %v", err)
	}
}

func TestIssuerSettings(t *testing.T) {
	good := config.Issuer{URL: "https://ci.example.com", Audience: "a", Callers: []config.Caller{{Name: "ci", Claims: map[string]string{"sub": "x"}, Role: "viewer"}}}
	for want, change := range map[string]func(*config.Issuer){
		"auth.issuers[0].url":        func(i *config.Issuer) { i.URL = "http://ci.example.com" },
		"auth.issuers[0].audience":   func(i *config.Issuer) { i.Audience = "" },
		"auth.issuers[0].callers[0]": func(i *config.Issuer) { i.Callers = []config.Caller{{Name: "ci", Role: "viewer"}} },
	} {
		bad := good
		change(&bad)
		if _, err := newIssuers([]config.Issuer{bad}, "team-a", nil); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if _, err := newIssuers([]config.Issuer{good, good}, "team-a", nil); err == nil {
		t.Error("one issuer twice")
	}
}

func FuzzMatches(f *testing.F) {
	f.Add("repo:acme/*", "repo:acme/shop")
	f.Add("*a*b", "aab")
	f.Add("a*a", "a")
	f.Add("", "")
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if strings.ToValidUTF8(pattern+text, "") != pattern+text {
			return // regular expressions match text
		}
		same := regexp.MustCompile("(?s)^" + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, ".*") + "$")
		if got, want := matches(pattern, text), same.MatchString(text); got != want {
			t.Errorf("%q on %q: %v, want %v", pattern, text, got, want)
		}
	})
}
