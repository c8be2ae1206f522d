// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/audit"
)

func TestRefreshRotates(t *testing.T) {
	r := one(t)
	_, first := r.ada()
	second := r.tokens(r.refreshWith(first.RefreshToken))
	if second.RefreshToken == first.RefreshToken || second.AccessToken == first.AccessToken {
		t.Error("nothing is new")
	}
	third := r.tokens(r.refreshWith(second.RefreshToken))
	r.wants("the newest", r.call(http.MethodGet, "/me", third.AccessToken, ""), 200)
	other := r.tokens(r.password(adaEmail, adaPassword))

	// The second use of a token ends its whole family, and no other.
	r.wants("reuse", r.refreshWith(first.RefreshToken), 400, "invalid_grant")
	r.wants("the newest refresh token", r.refreshWith(third.RefreshToken), 400, "invalid_grant")
	for _, tokens := range []tokenSet{first, second, third} {
		r.wants("its access tokens", r.call(http.MethodGet, "/me", tokens.AccessToken, ""), 401)
	}
	r.wants("another session", r.call(http.MethodGet, "/me", other.AccessToken, ""), 200)
	r.wants("its refresh token", r.refreshWith(other.RefreshToken), 200)
	if r.events.count("token.reuse", audit.Denied, "") == 0 {
		t.Error("the reuse was not recorded")
	}
}

// TestRefreshRace checks that of concurrent uses at most one gets tokens, and the family ends.
func TestRefreshRace(t *testing.T) {
	r := one(t)
	_, first := r.ada()
	var group sync.WaitGroup
	answers := make([]answer, 8)
	for i := range answers {
		group.Go(func() { answers[i] = r.refreshWith(first.RefreshToken) })
	}
	group.Wait()
	good := 0
	for _, a := range answers {
		switch a.status {
		case 200:
			good++
			tokens := r.tokens(a)
			r.wants("what the winner got", r.call(http.MethodGet, "/me", tokens.AccessToken, ""), 401)
			r.wants("its refresh token", r.refreshWith(tokens.RefreshToken), 400)
		case 400:
			r.wants("a loser", a, 400, "invalid_grant")
		default:
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	if good > 1 {
		t.Errorf("%d got tokens", good)
	}
}

func TestRevoke(t *testing.T) {
	r := one(t)
	_, first := r.ada()
	second := r.tokens(r.password(adaEmail, adaPassword))
	r.wants("by refresh token", r.post("/revoke", "token", first.RefreshToken), 200)
	r.wants("its access token", r.call(http.MethodGet, "/me", first.AccessToken, ""), 401)
	r.wants("its refresh token", r.refreshWith(first.RefreshToken), 400)
	r.wants("the other session", r.call(http.MethodGet, "/me", second.AccessToken, ""), 200)
	r.wants("of another client", r.post("/revoke", "token", second.AccessToken, "client_id", "app"), 400, "unauthorized_client")
	r.wants("by access token", r.post("/revoke", "token", second.AccessToken, "token_type_hint", "access_token"), 200)
	r.wants("now", r.call(http.MethodGet, "/me", second.AccessToken, ""), 401)
	r.wants("its refresh token", r.refreshWith(second.RefreshToken), 400)
	r.wants("again", r.post("/revoke", "token", second.AccessToken), 200)
	r.wants("nonsense", r.post("/revoke", "token", "nonsense"), 200)
	r.wants("nothing", r.post("/revoke"), 400, "invalid_request")
	r.wants("an unknown client", r.post("/revoke", "token", "x", "client_id", "nobody"), 401, "invalid_client")
}

func TestTokenRefuses(t *testing.T) {
	r := one(t)
	for name, c := range map[string]struct {
		pairs  []string
		status int
		code   string
	}{
		"no grant":       {[]string{"username", adaEmail}, 400, "invalid_request"},
		"unknown grant":  {[]string{"grant_type", "magic"}, 400, "unsupported_grant_type"},
		"client grant":   {[]string{"grant_type", "client_credentials"}, 400, "unsupported_grant_type"},
		"no password":    {[]string{"grant_type", "password", "username", adaEmail}, 400, "invalid_request"},
		"twice":          {[]string{"grant_type", "password", "username", adaEmail, "username", adminEmail, "password", "canary-x"}, 400, "invalid_request"},
		"unknown client": {[]string{"grant_type", "password", "username", adaEmail, "password", "canary-x", "client_id", "nobody"}, 401, "invalid_client"},
		"its grant":      {[]string{"grant_type", "password", "username", adaEmail, "password", "canary-x", "client_id", "app"}, 400, "unauthorized_client"},
		"bad refresh":    {[]string{"grant_type", "refresh_token", "refresh_token", "canary"}, 400, "invalid_grant"},
		"bad code":       {[]string{"grant_type", "authorization_code", "code", "canary", "client_id", "app", "redirect_uri", callback}, 400, "invalid_grant"},
		"scope":          {[]string{"grant_type", "password", "username", adaEmail, "password", "canary-x", "scope", "canary"}, 400, "invalid_scope"},
		"long":           {[]string{"grant_type", "password", "username", adaEmail, "password", strings.Repeat("canary", 10_000)}, 413, "invalid_request"},
		"odd username":   {[]string{"grant_type", "password", "username", "\x00\xff'; DROP TABLE users", "password", "canary-x"}, 400, "invalid_grant"},
	} {
		a := r.post("/token", c.pairs...)
		r.wants(name, a, c.status, `"error":"`+c.code+`"`)
		if a.header.Get("Cache-Control") != "no-store" || a.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %v", name, a.header)
		}
	}
	r.wants("JSON", r.call(http.MethodPost, "/token", "", `{"grant_type":"password"}`), 400, "invalid_request")
}

const verifier = "a-verifier-of-at-least-forty-three-characters-0"

func challenge() string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// login uses the page: its query, changed by pairs ("" omits a parameter), and a password.
func (r *replica) login(password string, pairs ...string) answer {
	r.t.Helper()
	query := url.Values{"response_type": {"code"}, "client_id": {"app"}, "redirect_uri": {callback}, "state": {"some-state"},
		"code_challenge": {challenge()}, "code_challenge_method": {"S256"}}
	for i := 0; i < len(pairs); i += 2 {
		if query.Set(pairs[i], pairs[i+1]); pairs[i+1] == "" {
			query.Del(pairs[i])
		}
	}
	return r.post("/authorize?"+query.Encode(), "username", adaEmail, "password", password)
}

// codeOf returns the code in a redirect.
func (r *replica) codeOf(a answer) string {
	r.t.Helper()
	to, err := url.Parse(a.header.Get("Location"))
	if err != nil || a.status != http.StatusSeeOther || !strings.HasPrefix(to.String(), callback) || to.Query().Get("state") != "some-state" || to.Query().Get("code") == "" {
		r.t.Fatalf("%d %v %s", a.status, a.header, a.body)
	}
	return to.Query().Get("code")
}

func (r *replica) exchange(code string, pairs ...string) answer {
	r.t.Helper()
	return r.post("/token", append([]string{"grant_type", "authorization_code", "client_id", "app", "redirect_uri", callback, "code", code}, pairs...)...)
}

func TestAuthorizationCode(t *testing.T) {
	r := one(t)
	u, _ := r.ada()
	page := r.call(http.MethodGet, "/authorize?response_type=code&client_id=app&redirect_uri="+url.QueryEscape(callback)+
		"&state=some-state&code_challenge="+challenge()+"&code_challenge_method=S256", "", "")
	r.wants("the page", page, 200, "<form", "app")
	policy := page.header.Get("Content-Security-Policy")
	if !strings.Contains(policy, "frame-ancestors 'none'") || !strings.Contains(policy, "https://app.example.com") || page.header.Get("X-Frame-Options") != "DENY" {
		t.Errorf("headers %v", page.header)
	}
	wrong := r.login("canary-no")
	r.wants("a wrong password", wrong, 401, "<form")

	code := r.codeOf(r.login(adaPassword))
	tokens := r.tokens(r.exchange(code, "code_verifier", verifier))
	me := r.user(r.call(http.MethodGet, "/me", tokens.AccessToken, ""))
	if me.ID != u.ID {
		t.Errorf("logged in as %+v", me)
	}
	refreshed := r.tokens(r.post("/token", "grant_type", "refresh_token", "refresh_token", tokens.RefreshToken, "client_id", "app"))
	r.wants("another client's refresh", r.refreshWith(refreshed.RefreshToken), 400, "invalid_grant")

	// A code that is used twice ends the session that the first use created.
	r.wants("the code again", r.exchange(code, "code_verifier", verifier), 400, "invalid_grant")
	r.wants("the session", r.call(http.MethodGet, "/me", refreshed.AccessToken, ""), 401)
}

func TestAuthorizationCodeRefuses(t *testing.T) {
	r := one(t)
	r.ada()
	for name, pairs := range map[string][]string{
		"no challenge": {"code_challenge", "", "code_challenge_method", ""},
		"plain":        {"code_challenge_method", "plain"},
		"no method":    {"code_challenge_method", ""},
		"state":        {"state", "short"},
		"scope":        {"scope", "everything"},
		"token":        {"response_type", "token"},
	} {
		a := r.login(adaPassword, pairs...)
		to := a.header.Get("Location")
		if a.status != http.StatusSeeOther || !strings.HasPrefix(to, callback) || !strings.Contains(to, "error=") || strings.Contains(to, "code=") {
			t.Errorf("%s: %d %s %s", name, a.status, to, a.body)
		}
	}
	for name, pairs := range map[string][]string{
		"another redirect": {"redirect_uri", "https://evil.example.com/"},
		"a longer one":     {"redirect_uri", callback + "/../evil"},
		"unknown client":   {"client_id", "nobody"},
		"default client":   {"client_id", DefaultClient},
		"no client":        {"client_id", ""},
	} {
		a := r.login(adaPassword, pairs...)
		if a.status < 400 || a.status >= 500 || a.header.Get("Location") != "" {
			t.Errorf("%s: %d %v %s", name, a.status, a.header, a.body)
		}
	}
	for name, pairs := range map[string][]string{
		"no verifier":      nil,
		"a wrong verifier": {"code_verifier", strings.Repeat("x", 50)},
	} {
		code := r.codeOf(r.login(adaPassword))
		r.wants(name, r.exchange(code, pairs...), 400, "invalid_grant")
		r.wants(name+": no second guess", r.exchange(code, "code_verifier", verifier), 400, "invalid_grant")
	}
	code := r.codeOf(r.login(adaPassword))
	a := r.post("/token", "grant_type", "authorization_code", "client_id", "app", "redirect_uri", "https://evil.example.com/", "code", code, "code_verifier", verifier)
	r.wants("another redirect at the exchange", a, 400, "invalid_grant")
}

func TestConfidentialClient(t *testing.T) {
	a := settings()
	hash, err := bcrypt.GenerateFromPassword([]byte("canary-client"), 4)
	if err != nil {
		t.Fatal(err)
	}
	a.Clients = append(a.Clients, config.Client{ID: "web", RedirectURIs: []string{callback}, SecretHash: string(hash)})
	r := start(t, database(t, servers.Postgres(t).Data()), a, Options{})
	r.ada()
	exchange := func(secret string) answer {
		code := r.codeOf(r.login(adaPassword, "client_id", "web"))
		return r.post("/token", "grant_type", "authorization_code", "client_id", "web", "client_secret", secret, "redirect_uri", callback, "code", code, "code_verifier", verifier)
	}
	r.wants("its secret", exchange("canary-client"), 200)
	r.wants("a wrong one", exchange("canary-wrong"), 401, "invalid_client")
	r.wants("none", exchange(""), 401, "invalid_client")
}
