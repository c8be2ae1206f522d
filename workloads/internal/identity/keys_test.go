// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/auth"
)

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func rsaConfig(t testing.TB, id string) config.Key {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(rsaKey())
	if err != nil {
		t.Fatal(err)
	}
	return config.Key{ID: id, Algorithm: "RS256", Secret: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))}
}

func ring(t testing.TB, keys ...config.Key) *keyring {
	t.Helper()
	r, err := newKeyring(issuer, keys)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func someClaims(now time.Time) claims {
	return claims{
		Claims: jwt.Claims{Subject: "u-1", IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(time.Hour))},
		Name:   adaEmail, Session: "s-1", Grants: []auth.Grant{{Product: "vault", Namespace: "team-a", Role: auth.RoleEditor}},
	}
}

// forge signs any header and any claims, like an attacker who has the key.
func forge(t testing.TB, algorithm jose.SignatureAlgorithm, key any, header map[string]any, payload map[string]any) string {
	t.Helper()
	options := &jose.SignerOptions{}
	for name, value := range header {
		options.WithHeader(jose.HeaderKey(name), value)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, options)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(payload).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func segment(t testing.TB, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(data)
}

// badTokens returns tokens that must all be refused, for a ring of k1 (HS256) and r1 (RS256).
func badTokens(t testing.TB, good string) map[string]string {
	t.Helper()
	now := time.Now().Unix()
	payload := map[string]any{"iss": issuer, "aud": issuer, "sub": "u-1", "sid": "s-1", "iat": now, "exp": now + 3600, "name": adaEmail, "grants": []any{}}
	with := func(changes map[string]any) map[string]any {
		out := maps.Clone(payload)
		for k, v := range changes {
			if out[k] = v; v == nil {
				delete(out, k)
			}
		}
		return out
	}
	secret := []byte(strings.Repeat("k1", 20))
	header := map[string]any{"kid": "k1", "typ": "at+jwt"}
	sign := func(h, p map[string]any) string { return forge(t, jose.HS256, secret, h, p) }
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&rsaKey().PublicKey)})
	none := segment(t, map[string]any{"alg": "none", "typ": "at+jwt", "kid": "k1"}) + "." + segment(t, payload) + "."
	parts := strings.Split(good, ".")
	return map[string]string{
		"alg none":              none,
		"alg none, signed":      none + parts[2],
		"alg None":              segment(t, map[string]any{"alg": "None", "kid": "k1"}) + "." + segment(t, payload) + ".",
		"wrong audience":        sign(header, with(map[string]any{"aud": "https://other"})),
		"no audience":           sign(header, with(map[string]any{"aud": nil})),
		"wrong issuer":          sign(header, with(map[string]any{"iss": "https://other"})),
		"no issuer":             sign(header, with(map[string]any{"iss": nil})),
		"expired":               sign(header, with(map[string]any{"exp": now - 60})),
		"no expiry":             sign(header, with(map[string]any{"exp": nil})),
		"not yet":               sign(header, with(map[string]any{"nbf": now + 600})),
		"from the future":       sign(header, with(map[string]any{"iat": now + 600})),
		"no subject":            sign(header, with(map[string]any{"sub": nil})),
		"no session":            sign(header, with(map[string]any{"sid": nil})),
		"claims of other types": sign(header, with(map[string]any{"sub": 1, "exp": "soon"})),
		"kid with ../":          sign(map[string]any{"kid": "../../../dev/null", "typ": "at+jwt"}, payload),
		"kid of SQL":            sign(map[string]any{"kid": "k1' OR '1'='1", "typ": "at+jwt"}, payload),
		"no kid":                sign(map[string]any{"typ": "at+jwt"}, payload),
		"unknown kid":           sign(map[string]any{"kid": "k9", "typ": "at+jwt"}, payload),
		"another typ":           sign(map[string]any{"kid": "k1", "typ": "JWT"}, payload),
		"another HMAC":          forge(t, jose.HS512, append(secret, secret...), header, payload),
		"another secret":        forge(t, jose.HS256, []byte(strings.Repeat("x", 40)), header, payload),
		"public key as secret":  forge(t, jose.HS256, public, map[string]any{"kid": "r1", "typ": "at+jwt"}, payload),
		"HMAC key under r1":     forge(t, jose.HS256, secret, map[string]any{"kid": "r1", "typ": "at+jwt"}, payload),
		"its own key":           forge(t, jose.RS256, rsaKey(), map[string]any{"kid": "k1", "typ": "at+jwt"}, payload),
		"other claims":          parts[0] + "." + segment(t, with(map[string]any{"sub": "u-2"})) + "." + parts[2],
		"cut":                   good[:len(good)-2],
		"no signature":          parts[0] + "." + parts[1] + ".",
		"two parts":             parts[0] + "." + parts[1],
		"empty parts":           "..",
		"text":                  "not a token",
		"nested":                strings.Repeat("a.", 100),
		"JSON":                  `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
	}
}

func TestBadTokens(t *testing.T) {
	r := ring(t, hmacKey("k1"), rsaConfig(t, "r1"))
	good, err := r.sign(someClaims(time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.verify(good, time.Now()); err != nil {
		t.Fatal(err)
	}
	for name, token := range badTokens(t, good) {
		if c, err := r.verify(token, time.Now()); !errors.Is(err, auth.ErrInvalidToken) || c != nil {
			t.Errorf("%s: %+v %v", name, c, err)
		}
	}
}

// TestBadTokensOverHTTP checks that each gets a 401, quickly.
func TestBadTokensOverHTTP(t *testing.T) {
	a := settings()
	a.Keys = append(a.Keys, rsaConfig(t, "r1"))
	r := start(t, database(t, servers.Postgres(t).Data()), a, Options{})
	good := r.admin().AccessToken
	for name, token := range badTokens(t, good) {
		begin := time.Now()
		answer := r.call(http.MethodGet, "/me", token, "")
		r.wants(name, answer, 401, "invalid_token")
		if took := time.Since(begin); took > time.Second {
			t.Errorf("%s took %s", name, took)
		}
	}
	r.wants("the good one", r.call(http.MethodGet, "/me", good, ""), 200)
	// An old token does no harm where tokens are issued.
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+prefix+"/jwks", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer old")
	r.wants("jwks", r.send(request), 200)
}

// TestKeyRotation checks that the first key signs, older ones still verify, and removed ones no longer do.
func TestKeyRotation(t *testing.T) {
	now := time.Now()
	before := ring(t, hmacKey("k1"))
	during := ring(t, rsaConfig(t, "r2"), hmacKey("k1"))
	after := ring(t, rsaConfig(t, "r2"))
	old, err := before.sign(someClaims(now))
	if err != nil {
		t.Fatal(err)
	}
	recent, err := during.sign(someClaims(now))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		ring  *keyring
		token string
		good  bool
	}{
		{"old before", before, old, true}, {"old during", during, old, true}, {"old after", after, old, false},
		{"new before", before, recent, false}, {"new during", during, recent, true}, {"new after", after, recent, true},
	} {
		got, err := c.ring.verify(c.token, now)
		if (err == nil) != c.good || (c.good && (got.Subject != "u-1" || len(got.Grants) != 1)) {
			t.Errorf("%s: %+v %v", c.name, got, err)
		}
	}
	if !strings.HasPrefix(recent, segment(t, map[string]any{"alg": "RS256", "kid": "r2", "typ": "at+jwt"})) {
		t.Errorf("the first key does not sign: %s", recent)
	}
}

// TestJWKS checks that others can verify with the published keys, and that they contain no secret.
func TestJWKS(t *testing.T) {
	a := settings()
	a.Keys = []config.Key{rsaConfig(t, "r1"), hmacKey("k1")}
	r := start(t, database(t, servers.Postgres(t).Data()), a, Options{})
	token := r.admin().AccessToken
	var set jose.JSONWebKeySet
	got := r.call(http.MethodGet, "/jwks", "", "")
	got.json(t, &set)
	if len(set.Keys) != 1 || set.Keys[0].KeyID != "r1" || !set.Keys[0].IsPublic() || strings.Contains(got.body, `"d"`) || strings.Contains(got.body, `"k"`) {
		t.Fatalf("jwks: %s", got.body)
	}
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		t.Fatal(err)
	}
	var c jwt.Claims
	if err := parsed.Claims(set.Key(parsed.Headers[0].KeyID)[0].Key, &c); err != nil || c.Issuer != issuer {
		t.Errorf("%+v %v", c, err)
	}
}

func FuzzVerify(f *testing.F) {
	r := ring(f, hmacKey("k1"), rsaConfig(f, "r1"))
	good, err := r.sign(someClaims(time.Now()))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	for _, token := range badTokens(f, good) {
		f.Add(token)
	}
	accounts, err := newAccounts(nil, issuer, "team-a", []config.ServiceAccount{{Name: "team-a/*", Role: "viewer"}}, time.Now)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, token string) {
		c, err := r.verify(token, time.Now())
		if err == nil && token != good && (c.Subject != "u-1" || c.Session != "s-1") {
			t.Errorf("forged: %q", token)
		}
		if err != nil && !errors.Is(err, auth.ErrInvalidToken) {
			t.Errorf("%q: %v", token, err)
		}
		accounts.claimed(token) // must not panic
	})
}

// TestVerifiedTokens checks that a cached token still expires and is still revoked, and that the cache is bounded.
func TestVerifiedTokens(t *testing.T) {
	c := &clock{}
	c.at.Store(time.Now().UnixNano())
	s := &Service{ring: ring(t, hmacKey("k1")), verified: newVerified(), changes: newChanges(nil, time.Hour, nil), now: c.now}
	sign := func(session string) string {
		t.Helper()
		content := someClaims(c.now())
		content.Session = session
		token, err := s.ring.sign(content)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	expires, revoked := sign("s-1"), sign("s-2")
	for range 2 {
		for _, token := range []string{expires, revoked} {
			if p, err := s.Authenticate(t.Context(), token); err != nil || p.ID != "u-1" {
				t.Fatal(p, err)
			}
		}
	}
	if len(s.verified.tokens) != 2 {
		t.Errorf("%d tokens are cached", len(s.verified.tokens))
	}
	s.changes.revoke("s-2")
	if _, err := s.Authenticate(t.Context(), revoked); !errors.Is(err, auth.ErrInvalidToken) {
		t.Errorf("revoked: %v", err)
	}
	c.advance(time.Hour + 2*leeway)
	if _, err := s.Authenticate(t.Context(), expires); !errors.Is(err, auth.ErrInvalidToken) {
		t.Errorf("expired: %v", err)
	}
	for i := range maxVerified + 10 {
		s.verified.put([32]byte{byte(i), byte(i >> 8), 1}, &claims{})
	}
	if len(s.verified.tokens) > maxVerified {
		t.Errorf("%d tokens are cached", len(s.verified.tokens))
	}
}

// benchmarkAuthenticate authenticates a token for the first time, or again.
func benchmarkAuthenticate(b *testing.B, key config.Key, again bool) {
	s := &Service{ring: ring(b, key), verified: newVerified(), changes: newChanges(nil, time.Hour, nil), now: time.Now}
	for range 10_000 {
		s.changes.revoke(rand.Text())
	}
	token, err := s.ring.sign(someClaims(time.Now()))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if !again {
			clear(s.verified.tokens)
		}
		if _, err := s.Authenticate(b.Context(), token); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	b.Run("HS256 first", func(b *testing.B) { benchmarkAuthenticate(b, hmacKey("k1"), false) })
	b.Run("HS256 again", func(b *testing.B) { benchmarkAuthenticate(b, hmacKey("k1"), true) })
	b.Run("RS256 first", func(b *testing.B) { benchmarkAuthenticate(b, rsaConfig(b, "r1"), false) })
	b.Run("RS256 again", func(b *testing.B) { benchmarkAuthenticate(b, rsaConfig(b, "r1"), true) })
}
