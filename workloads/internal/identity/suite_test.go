// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/internal/audit"
	"github.com/itechsmart/operator/workloads/internal/auth"
	"github.com/itechsmart/operator/workloads/internal/db"
	"github.com/itechsmart/operator/workloads/internal/server"
)

func TestMain(m *testing.M) { servers.Main(m) }

const (
	adminEmail    = "root@example.com"
	adminPassword = "canary-Root-1!" // the log must never show it
	adaEmail      = "ada@example.com"
	adaPassword   = "canary-Ada-1!"
	issuer        = "https://platform.team-a"
	callback      = "https://app.example.com/callback"
)

// events is an in-memory audit log.
type events struct {
	mu   sync.Mutex
	list []audit.Event
	full bool
}

func (e *events) Record(_ context.Context, event audit.Event) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.full {
		return audit.ErrFull
	}
	e.list = append(e.list, event)
	return nil
}

func (e *events) setFull(full bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.full = full
}

// count returns the number of events of an action with an outcome about an object; empty: any.
func (e *events) count(action, outcome, object string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for _, event := range e.list {
		if event.Action == action && event.Outcome == outcome && (object == "" || event.Object == object) {
			n++
		}
	}
	return n
}

// lockedBuffer is a log with concurrent writers.
type lockedBuffer struct {
	mu   sync.Mutex
	data bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.String()
}

func hmacKey(id string) config.Key {
	return config.Key{ID: id, Algorithm: "HS256", Secret: base64.StdEncoding.EncodeToString([]byte(strings.Repeat(id, 40)[:40]))}
}

func settings() config.Auth {
	return config.Auth{
		Issuer: issuer, Keys: []config.Key{hmacKey("k1")}, OpenRegistration: true,
		Password:      config.Password{Upper: true, Lower: true, Digit: true, Punctuation: true},
		Administrator: &config.Administrator{Email: "Root@Example.com", Password: adminPassword},
		Clients:       []config.Client{{ID: "app", RedirectURIs: []string{callback}}},
	}
}

func database(t testing.TB, binding map[string]string) config.Database {
	t.Helper()
	c := config.Database{Binding: binding, Schema: "public", MinConnections: 1, MaxConnections: 8}
	pool, err := db.Open(t.Context(), c, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	c.Schema = "s_" + strings.ToLower(strings.NewReplacer("/", "_", "-", "_", " ", "_").Replace(t.Name()))
	if _, err := pool.Exec(t.Context(), "CREATE SCHEMA "+pgx.Identifier{c.Schema}.Sanitize()); err != nil {
		t.Fatal(err)
	}
	return c
}

func openPool(t testing.TB, c config.Database) *pgxpool.Pool {
	t.Helper()
	pool, err := db.Open(t.Context(), c, "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// replica is a service as it runs: with its routes and its server's middleware.
type replica struct {
	*Service
	t      testing.TB
	url    string
	events *events
	log    *lockedBuffer
}

func start(t testing.TB, c config.Database, a config.Auth, o Options) *replica {
	t.Helper()
	r := &replica{t: t, events: &events{}, log: &lockedBuffer{}}
	o.Product, o.Namespace, o.HashCost = "vault", "team-a", max(o.HashCost, 4)
	o.Log = slog.New(slog.NewJSONHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	if r.Service, err = New(t.Context(), openPool(t, c), a, r.events, o); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	r.Register(api.New(mux, "Test", "1"), mux)
	web := httptest.NewServer(auth.Middleware(r.Service, Anonymous...)(server.Routes(mux)))
	r.url = web.URL
	t.Cleanup(func() {
		web.Close()
		r.Close()
		for _, secret := range []string{adminPassword, adaPassword, "canary"} {
			if strings.Contains(r.log.String(), secret) {
				t.Errorf("the log contains a password: %s", r.log)
			}
		}
	})
	return r
}

// one returns a service on a schema of its own, with its default settings.
func one(t testing.TB) *replica {
	t.Helper()
	return start(t, database(t, servers.Postgres(t).Data()), settings(), Options{})
}

// answer is a response, read.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) json(t testing.TB, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.body), into); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
}

var noRedirect = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

func (r *replica) send(request *http.Request) answer {
	r.t.Helper()
	response, err := noRedirect.Do(request)
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	if strings.Contains(string(body), "canary") {
		r.t.Errorf("a response contains a password: %s", body)
	}
	return answer{response.StatusCode, response.Header, string(body)}
}

// call sends JSON.
func (r *replica) call(method, path, token, body string) answer {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.t.Context(), method, r.url+prefix+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	return r.send(request)
}

// post sends a form.
func (r *replica) post(path string, pairs ...string) answer {
	r.t.Helper()
	values := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		values.Add(pairs[i], pairs[i+1])
	}
	request, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, r.url+prefix+path, strings.NewReader(values.Encode()))
	if err != nil {
		r.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r.send(request)
}

type tokenSet struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int    `json:"expires_in"`
	RefreshToken string `json:"refresh_token"`
}

func (r *replica) tokens(a answer) tokenSet {
	r.t.Helper()
	var out tokenSet
	if a.status != http.StatusOK {
		r.t.Fatalf("%d %s", a.status, a.body)
	}
	a.json(r.t, &out)
	if out.AccessToken == "" || out.RefreshToken == "" || !strings.EqualFold(out.TokenType, "bearer") || a.header.Get("Cache-Control") != "no-store" {
		r.t.Fatalf("tokens: %s %v", a.body, a.header)
	}
	return out
}

func (r *replica) password(email, password string) answer {
	r.t.Helper()
	return r.post("/token", "grant_type", "password", "username", email, "password", password)
}

func (r *replica) refreshWith(token string) answer {
	r.t.Helper()
	return r.post("/token", "grant_type", "refresh_token", "refresh_token", token)
}

func (r *replica) admin() tokenSet { return r.tokens(r.password(adminEmail, adminPassword)) }

// ada registers ada, and logs her in.
func (r *replica) ada() (User, tokenSet) {
	r.t.Helper()
	a := r.call(http.MethodPost, "/register", "", `{"email":"`+adaEmail+`","password":"`+adaPassword+`","name":"Ada"}`)
	if a.status != http.StatusCreated {
		r.t.Fatalf("%d %s", a.status, a.body)
	}
	return r.user(a), r.tokens(r.password(adaEmail, adaPassword))
}

func (r *replica) user(a answer) User {
	r.t.Helper()
	var envelope struct {
		Success bool
		Data    User
	}
	a.json(r.t, &envelope)
	if !envelope.Success {
		r.t.Fatalf("%d %s", a.status, a.body)
	}
	return envelope.Data
}

func (r *replica) wants(what string, a answer, status int, contains ...string) {
	r.t.Helper()
	if a.status != status {
		r.t.Errorf("%s: %d, want %d: %s", what, a.status, status, a.body)
	}
	for _, text := range contains {
		if !strings.Contains(a.body, text) {
			r.t.Errorf("%s: %s lacks %s", what, a.body, text)
		}
	}
}

// eventually polls until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
		time.Sleep(20 * time.Millisecond) // the polling interval
	}
}
