// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
)

// withoutDatabase returns a service for tests that need no database.
func withoutDatabase(t testing.TB) *Service {
	t.Helper()
	clients, err := newClients(settings().Clients)
	if err != nil {
		t.Fatal(err)
	}
	s := &Service{settings: settings(), log: slog.New(slog.DiscardHandler), audit: &events{}, now: time.Now, store: &oauthStore{clients: clients}}
	s.provider = newProvider(s.store, &strategy{ring: ring(t, hmacKey("k1")), now: time.Now}, nil, time.Hour, time.Hour)
	return s
}

// FuzzAuthorize checks that a client is only redirected to its own address, whatever the parameters, and the page repeats
// none of them.
func FuzzAuthorize(f *testing.F) {
	back := url.QueryEscape(callback)
	for _, seed := range []string{
		"", "response_type=code&client_id=app&redirect_uri=" + back + "&state=some-state&code_challenge=" + challenge() + "&code_challenge_method=S256",
		"response_type=token&client_id=app&redirect_uri=" + back + "&state=some-state", "client_id=app&redirect_uri=https%3A%2F%2Fevil.example.com", "client_id=app&redirect_uri=" + back + "%2F..%2Fevil",
		"client_id=app&redirect_uri=" + back + "%23x", "client_id=app&client_id=web", "client_id=%00", "client_id=app&redirect_uri=javascript:alert(1)", "client_id=app&redirect_uri=%0d%0a", "request=e30.e30.",
		"client_id=app&redirect_uri=http%3A%2F%2Fapp.example.com%2Fcallback", "request_uri=http%3A%2F%2F127.0.0.1%2F", "response_mode=form_post&response_type=code&client_id=app&state=some-state", "a;b", "%zz", "prompt=none&max_age=-1&client_id=app",
		"response_type=code&client_id=app&state=some-state&response_mode=fragment&scope=openid",
	} {
		f.Add(seed)
	}
	s := withoutDatabase(f)
	f.Fuzz(func(t *testing.T, query string) {
		r := httptest.NewRequest(http.MethodGet, prefix+"/authorize", nil)
		r.URL.RawQuery = query
		w := httptest.NewRecorder()
		s.authorize(w, r)
		if w.Code >= 500 {
			t.Fatalf("%q: %d %s", query, w.Code, w.Body)
		}
		if to := w.Header().Get("Location"); to != "" && (!strings.HasPrefix(to, callback) || strings.Trim(to[len(callback):][:1], "?#") != "") {
			t.Fatalf("%q: to %s", query, to)
		}
		if w.Code == http.StatusOK && (!strings.Contains(w.Header().Get("Content-Security-Policy"), "form-action 'self' https://app.example.com;") || !strings.Contains(w.Body.String(), "to continue to app<")) {
			t.Fatalf("%q: %v %s", query, w.Header(), w.Body)
		}
	})
}

// FuzzToken checks that the token endpoints respond as OAuth specifies to any input, and never issue a token.
func FuzzToken(f *testing.F) {
	for _, seed := range []string{
		"", "grant_type=password&username=a&password=b", "grant_type=refresh_token&refresh_token=x", "grant_type=client_credentials", "grant_type=password&grant_type=password", "grant_type=%00", "%zz", "a;b=c",
		"grant_type=authorization_code&client_id=app&code=x&code_verifier=" + verifier + "&redirect_uri=" + url.QueryEscape(callback), "grant_type=password&username=%ff&password=%00", "token=x&token_type_hint=access_token", "token=e30.e30.e30",
		"grant_type=authorization_code&client_id=app&code=x&code_verifier=" + strings.Repeat("v", 200), "client_id=none&grant_type=password&username=a&password=b", "grant_type=password&username=root@example.com&password=" + strings.Repeat("p", 80), "grant_type=password password",
		"client_id=app&client_secret=x&grant_type=refresh_token&refresh_token=%0d%0a", "grant_type=refresh_token&refresh_token=" + strings.Repeat("r", 5000),
	} {
		f.Add(seed, "application/x-www-form-urlencoded", "")
		f.Add(seed, "application/json", "Basic YXBwOng=")
	}
	r := start(f, database(f, servers.Postgres(f).Data()), settings(), Options{})
	f.Fuzz(func(t *testing.T, body, kind, authorization string) {
		for _, path := range []string{"/token", "/revoke"} {
			request := httptest.NewRequest(http.MethodPost, prefix+path, strings.NewReader(body))
			request.Header.Set("Content-Type", kind)
			request.Header.Set("Authorization", authorization)
			w := httptest.NewRecorder()
			map[string]http.HandlerFunc{"/token": r.Service.token, "/revoke": r.Service.revoke}[path](w, request)
			answer, _ := io.ReadAll(w.Body)
			if w.Code >= 500 || (w.Code == http.StatusOK && path == "/token") || strings.Contains(string(answer), "access_token") {
				t.Fatalf("%s %q %q %q: %d %s", path, body, kind, authorization, w.Code, answer)
			}
		}
	})
}

// FuzzEmail checks that an address is normalized to visible ASCII, and that normalizing again does not change it.
func FuzzEmail(f *testing.F) {
	for _, seed := range []string{"", "ada@example.com", " ADA@Example.com ", "Ada <ada@example.com>", "a@b@c", `"a b"@example.com`, "a/b@example.com", "*@example.com", "a@[127.0.0.1]", "ä@example.com", "a@example.com\r\nx", strings.Repeat("a", 400) + "@example.com"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		email, ok := normalEmail(text)
		if !ok {
			if email != "" {
				t.Fatalf("%q is refused, but returns %q", text, email)
			}
			return
		}
		again, ok := normalEmail(email)
		if !ok || again != email || strings.ContainsFunc(email, func(r rune) bool { return r > unicode.MaxASCII || !unicode.IsPrint(r) || unicode.IsUpper(r) }) {
			t.Fatalf("%q becomes %q, and that %q", text, email, again)
		}
	})
}
