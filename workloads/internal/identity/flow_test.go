// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/audit"
)

func TestRegisterTokenMe(t *testing.T) {
	r := one(t)
	u, tokens := r.ada()
	if u.Email != adaEmail || u.Name != "Ada" || len(u.Grants) != 0 {
		t.Errorf("registered %+v", u)
	}
	if tokens.ExpiresIn < 86390 || tokens.ExpiresIn > 86400 {
		t.Errorf("expires in %d s, want 24 h", tokens.ExpiresIn)
	}
	r.wants("me", r.call(http.MethodGet, "/me", tokens.AccessToken, ""), 200, u.ID.String())
	r.wants("anonymous", r.call(http.MethodGet, "/me", "", ""), 401)
	r.wants("any case", r.password(" ADA@example.COM ", adaPassword), 200)
	r.wants("taken", r.call(http.MethodPost, "/register", "", `{"email":"ADA@example.com","password":"`+adaPassword+`"}`), 409)
	r.wants("wrong password", r.password(adaEmail, "canary-no"), 400, "invalid_grant")
	r.wants("unknown user", r.password("nobody@example.com", "canary-no"), 400, "invalid_grant")
	known, unknown := r.password(adaEmail, "canary-no"), r.password("nobody@example.com", "canary-no")
	if known.body != unknown.body || known.status != unknown.status {
		t.Errorf("a known user's response differs: %s and %s", known.body, unknown.body)
	}
	for _, want := range []struct {
		action, outcome, object string
		count                   int
	}{
		{"user.register", audit.Allowed, "user/" + adaEmail, 1}, {"user.register", audit.Failed, "user/" + adaEmail, 1},
		{"login", audit.Allowed, "", 2}, {"login", audit.Denied, "user/" + adaEmail, 2}, {"login", audit.Denied, "user/nobody@example.com", 2},
		{"user.bootstrap", audit.Allowed, "user/" + adminEmail, 1},
	} {
		if got := r.events.count(want.action, want.outcome, want.object); got != want.count {
			t.Errorf("%d events %s %s %s, want %d", got, want.action, want.outcome, want.object, want.count)
		}
	}
}

func TestClosedRegistration(t *testing.T) {
	a := settings()
	a.OpenRegistration = false
	r := start(t, database(t, servers.Postgres(t).Data()), a, Options{})
	body := `{"email":"` + adaEmail + `","password":"` + adaPassword + `"}`
	r.wants("anybody", r.call(http.MethodPost, "/register", "", body), 401)
	r.wants("the administrator", r.call(http.MethodPost, "/register", r.admin().AccessToken, body), 201)
	ada := r.tokens(r.password(adaEmail, adaPassword))
	r.wants("a user", r.call(http.MethodPost, "/register", ada.AccessToken, strings.Replace(body, "ada", "eve", 1)), 403)
}

// TestMassAssignment checks that a field that users may not set is refused, and nothing is created or changed.
func TestMassAssignment(t *testing.T) {
	r := one(t)
	u, tokens := r.ada()
	for _, extra := range []string{`"role":"admin"`, `"namespace":"team-b"`, `"id":"00000000-0000-0000-0000-000000000001"`,
		`"grants":[{"product":"*","namespace":"*","role":"admin"}]`, `"Grants":[]`, `"password_hash":"x"`, `"createdAt":"2020-01-01T00:00:00Z"`} {
		a := r.call(http.MethodPost, "/register", "", `{"email":"eve@example.com","password":"canary-Eve-1!",`+extra+`}`)
		r.wants("register with "+extra, a, 422)
		r.wants("me with "+extra, r.call(http.MethodPut, "/me", tokens.AccessToken, `{"name":"Eve",`+extra+`}`), 422)
	}
	r.wants("eve was not created", r.password("eve@example.com", "canary-Eve-1!"), 400)
	me := r.user(r.call(http.MethodGet, "/me", tokens.AccessToken, ""))
	if me.Name != "Ada" || me.ID != u.ID || len(me.Grants) != 0 {
		t.Errorf("changed to %+v", me)
	}
}

func TestPasswordRules(t *testing.T) {
	r := one(t)
	for password, rule := range map[string]string{
		"canA1!":                       "at least 8 characters",
		"canary-lower-1":               "upper-case",
		"CANARY-UPPER-1":               "lower-case",
		"canary-Digit-":                "digit",
		"canaryMark1":                  "punctuation",
		strings.Repeat("canary-A1", 9): "at most 72 bytes",
		"canary-Ä1-é" + strings.Repeat("é", 31): "at most 72 bytes",
	} {
		a := r.call(http.MethodPost, "/register", "", `{"email":"`+adaEmail+`","password":"`+password+`"}`)
		r.wants(password, a, 422, rule, "body.password")
	}
	for _, body := range []string{`{"email":"` + adaEmail + `","password":["canary-A1"]}`, `{"email":"` + adaEmail + `","password":{"canary":1}}`, `{"email":"x","password":"canary-A1-x"}`,
		`{"email":"Ada <ada@example.com>","password":"canary-A1-x"}`, `{"email":"a b@example.com","password":"canary-A1-x"}`, `{"email":"*@example.com","password":"canary-A1-x"}`} {
		r.wants(body, r.call(http.MethodPost, "/register", "", body), 422)
	}
}

// TestLongPassword: bcrypt uses only 72 bytes; a longer text with the same start is another password.
func TestLongPassword(t *testing.T) {
	r := one(t)
	password := strings.Repeat("cAnary1!", 9)
	r.wants("register", r.call(http.MethodPost, "/register", "", `{"email":"`+adaEmail+`","password":"`+password+`"}`), 201)
	r.wants("the same", r.password(adaEmail, password), 200)
	r.wants("longer", r.password(adaEmail, password+"x"), 400)
}

func TestChangePassword(t *testing.T) {
	r := one(t)
	_, here := r.ada()
	there := r.tokens(r.password(adaEmail, adaPassword))
	put := func(body string) answer { return r.call(http.MethodPut, "/me", here.AccessToken, body) }
	r.wants("a name", put(`{"name":"Countess"}`), 200, "Countess")
	r.wants("without the old one", put(`{"password":"canary-New-1!"}`), 403)
	r.wants("with a wrong one", put(`{"password":"canary-New-1!","oldPassword":"canary-no"}`), 403)
	r.wants("a weak one", put(`{"password":"canary","oldPassword":"`+adaPassword+`"}`), 422)
	r.wants("none", put(`{"oldPassword":"`+adaPassword+`"}`), 422)
	r.wants("the right one", put(`{"password":"canary-New-1!","oldPassword":"`+adaPassword+`"}`), 200, "Countess")
	r.wants("this session continues", r.call(http.MethodGet, "/me", here.AccessToken, ""), 200)
	r.wants("the other session ended", r.call(http.MethodGet, "/me", there.AccessToken, ""), 401)
	r.wants("its refresh token too", r.refreshWith(there.RefreshToken), 400)
	r.wants("the old password", r.password(adaEmail, adaPassword), 400)
	r.wants("the new password", r.password(adaEmail, "canary-New-1!"), 200)
	if r.events.count("user.password", audit.Allowed, "") != 1 || r.events.count("user.password", audit.Denied, "") != 2 {
		t.Errorf("events: %+v", r.events.list)
	}
}

// TestFirstAdministratorOnce checks that replicas that start together create one, and later starts none.
func TestFirstAdministratorOnce(t *testing.T) {
	c := database(t, servers.Postgres(t).Data())
	var group sync.WaitGroup
	for range 3 {
		pool := openPool(t, c)
		group.Go(func() {
			s, err := New(t.Context(), pool, settings(), &events{}, Options{HashCost: 4})
			if err != nil {
				t.Error(err)
				return
			}
			s.Close()
		})
	}
	group.Wait()
	a := settings()
	a.Administrator.Email = "other@example.com"
	r := start(t, c, a, Options{})
	var count int
	if err := r.users.pool.QueryRow(t.Context(), "SELECT count(*) FROM users").Scan(&count); err != nil || count != 1 {
		t.Errorf("%d users, want 1 (%v)", count, err)
	}
	r.wants("other", r.password("other@example.com", adminPassword), 400)
	me := r.user(r.call(http.MethodGet, "/me", r.admin().AccessToken, ""))
	if len(me.Grants) != 1 || me.Grants[0] != root {
		t.Errorf("grants %v", me.Grants)
	}
}

func TestSettingsAreRefused(t *testing.T) {
	for name, change := range map[string]func(*config.Auth){
		"auth.issuer":                  func(a *config.Auth) { a.Issuer = "" },
		"auth.keys":                    func(a *config.Auth) { a.Keys = nil },
		"auth.keys[0].id":              func(a *config.Auth) { a.Keys[0].ID = "../k" },
		"auth.keys[1].id":              func(a *config.Auth) { a.Keys = append(a.Keys, a.Keys[0]) },
		"auth.keys[0]: secret":         func(a *config.Auth) { a.Keys[0].Secret = "Y2FuYXJ5" },
		"auth.keys[0]: algorithm":      func(a *config.Auth) { a.Keys[0].Algorithm = "none" },
		"auth.clients[0].redirectURIs": func(a *config.Auth) { a.Clients[0].RedirectURIs = nil },
		"auth.clients[1].id":           func(a *config.Auth) { a.Clients = append(a.Clients, a.Clients[0]) },
		"auth.clients[0].secretHash":   func(a *config.Auth) { a.Clients[0].SecretHash = "canary" },
		"auth.serviceAccounts[0].name": func(a *config.Auth) { a.ServiceAccounts = []config.ServiceAccount{{Name: "*/x", Role: "admin"}} },
		"auth.serviceAccounts[0].role": func(a *config.Auth) { a.ServiceAccounts = []config.ServiceAccount{{Name: "a/x", Role: "owner"}} },
	} {
		a := settings()
		change(&a)
		_, err := New(t.Context(), nil, a, &events{}, Options{HashCost: 4})
		if err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), "Y2FuYXJ5") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestFullAuditLog checks that an operation that cannot be recorded does not happen.
func TestFullAuditLog(t *testing.T) {
	r := one(t)
	u, tokens := r.ada()
	admin := r.admin()
	r.events.setFull(true)
	grants := `{"grants":[{"product":"vault","namespace":"team-a","role":"viewer"}]}`
	for what, a := range map[string]answer{
		"login":    r.password(adaEmail, adaPassword),
		"failed":   r.password(adaEmail, "canary-no"),
		"register": r.call(http.MethodPost, "/register", "", `{"email":"eve@example.com","password":"canary-Eve-1!"}`),
		"name":     r.call(http.MethodPut, "/me", tokens.AccessToken, `{"name":"Eve"}`),
		"grants":   r.call(http.MethodPut, "/users/"+u.ID.String()+"/grants", admin.AccessToken, grants),
	} {
		r.wants(what, a, 503)
		if a.header.Get("Retry-After") == "" || strings.Contains(a.body, "access_token") {
			t.Errorf("%s: %v %s", what, a.header, a.body)
		}
	}
	r.events.setFull(false)
	r.wants("eve was not created", r.password("eve@example.com", "canary-Eve-1!"), 400)
	me := r.user(r.call(http.MethodGet, "/me", tokens.AccessToken, ""))
	if me.Name != "Ada" || len(me.Grants) != 0 {
		t.Errorf("changed to %+v", me)
	}
}

// TestDocument checks that the OpenAPI document has all endpoints and their responses.
func TestDocument(t *testing.T) {
	r := one(t)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+"/openapi.json", nil)
	if err != nil {
		t.Fatal(err)
	}
	var document struct {
		Paths map[string]map[string]struct {
			Responses map[string]any
		}
	}
	r.send(request).json(t, &document)
	for path, operations := range map[string]map[string][]string{
		"/register": {"post": {"201", "409", "422", "503"}}, "/me": {"get": {"200", "401"}, "put": {"200", "403", "409", "422"}},
		"/users": {"get": {"200", "400", "403"}}, "/users/{id}/grants": {"put": {"200", "403", "404", "409", "422"}},
		"/token": {"post": {"200", "400", "401", "413", "429", "503"}}, "/revoke": {"post": {"200", "400", "401"}},
		"/authorize": {"get": {"200", "303", "400"}, "post": {"303", "401", "429"}}, "/jwks": {"get": {"200"}},
	} {
		for method, statuses := range operations {
			for _, status := range statuses {
				if document.Paths[prefix+path][method].Responses[status] == nil {
					t.Errorf("%s %s: %s is not documented", method, path, status)
				}
			}
		}
	}
}
