// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/auth"
)

// apiServer reviews tokens: those in known are valid.
type apiServer struct {
	mu    sync.Mutex
	known map[string]string // token to namespace/name
	down  bool
	calls atomic.Int64
	gate  chan struct{} // closed: responds at once
}

func (a *apiServer) Review(_ context.Context, token, audience string) (namespace, name string, err error) {
	a.calls.Add(1)
	<-a.gate
	a.mu.Lock()
	defer a.mu.Unlock()
	if audience != issuer {
		return "", "", fmt.Errorf("asked for audience %s", audience)
	}
	if a.down {
		return "", "", errors.New("connection refused")
	}
	namespace, name, found := strings.Cut(a.known[token], "/")
	if !found {
		return "", "", auth.ErrInvalidToken
	}
	return namespace, name, nil
}

func (a *apiServer) set(down bool, token, who string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.down = down
	if who == "" {
		delete(a.known, token)
	} else {
		a.known[token] = who
	}
}

func accountToken(t testing.TB, namespace, name, id string) string {
	t.Helper()
	return forge(t, jose.HS256, []byte(strings.Repeat("cluster", 8)), nil, map[string]any{"iss": "https://kubernetes", "aud": []string{issuer},
		"sub": accountPrefix + namespace + ":" + name, "exp": time.Now().Add(time.Hour).Unix(), "jti": id})
}

// clock is set by tests.
type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(0, c.at.Load()) }
func (c *clock) advance(d time.Duration) { c.at.Add(int64(d)) }

func newTestAccounts(t *testing.T) (*accounts, *apiServer, *clock) {
	t.Helper()
	server := &apiServer{known: map[string]string{}, gate: make(chan struct{})}
	close(server.gate)
	c := &clock{}
	c.at.Store(time.Now().UnixNano())
	a, err := newAccounts(server, issuer, "team-a", []config.ServiceAccount{{Name: "team-a/app", Role: "viewer"}, {Name: "team-a/*", Role: "editor"}, {Name: "system/manager", Role: "admin"}}, c.now)
	if err != nil {
		t.Fatal(err)
	}
	return a, server, c
}

func TestServiceAccounts(t *testing.T) {
	a, server, _ := newTestAccounts(t)
	for who, want := range map[string]auth.Role{"team-a/app": auth.RoleEditor, "team-a/other": auth.RoleEditor, "system/manager": auth.RoleAdmin, "system/other": "", "team-b/app": ""} {
		namespace, name, _ := strings.Cut(who, "/")
		token := accountToken(t, namespace, name, "1")
		server.set(false, token, who)
		before := server.calls.Load()
		p, err := a.authenticate(t.Context(), token)
		if want == "" {
			if !errors.Is(err, auth.ErrInvalidToken) || server.calls.Load() != before {
				t.Errorf("%s: %+v %v, %d calls", who, p, err, server.calls.Load()-before)
			}
			continue
		}
		if err != nil || p.Kind != auth.KindServiceAccount || p.ID != who || p.Name != who || p.RoleOn("vault", "team-a") != want || p.RoleOn("vault", "team-b") != auth.RoleNone {
			t.Errorf("%s: %+v %v", who, p, err)
		}
	}
	// A token's own claims do not count: the API server's answer does.
	lying := accountToken(t, "system", "manager", "2")
	server.set(false, lying, "team-b/thief")
	if p, err := a.authenticate(t.Context(), lying); !errors.Is(err, auth.ErrInvalidToken) {
		t.Errorf("%+v %v", p, err)
	}
	before := server.calls.Load()
	for _, hopeless := range []string{"", "a.b.c", "text", strings.Repeat(".", 100),
		forge(t, jose.HS256, []byte(strings.Repeat("cluster", 8)), nil, map[string]any{"aud": "https://kubernetes", "sub": accountPrefix + "team-a:app", "exp": time.Now().Add(time.Hour).Unix()}),
		forge(t, jose.HS256, []byte(strings.Repeat("cluster", 8)), nil, map[string]any{"aud": issuer, "sub": accountPrefix + "team-a:app", "exp": time.Now().Add(-time.Hour).Unix()}),
		forge(t, jose.HS256, []byte(strings.Repeat("cluster", 8)), nil, map[string]any{"aud": issuer, "sub": "team-a:app", "exp": time.Now().Add(time.Hour).Unix()}),
	} {
		if _, err := a.authenticate(t.Context(), hopeless); !errors.Is(err, auth.ErrInvalidToken) {
			t.Errorf("%q: %v", hopeless, err)
		}
	}
	if server.calls.Load() != before {
		t.Error("hopeless tokens were sent to the API server")
	}
}

func TestReviewsAreCached(t *testing.T) {
	a, server, c := newTestAccounts(t)
	good, bad := accountToken(t, "team-a", "app", "good"), accountToken(t, "team-a", "app", "bad")
	server.set(false, good, "team-a/app")
	ask := func(token string, wantErr error, wantCalls int64) {
		t.Helper()
		before := server.calls.Load()
		_, err := a.authenticate(t.Context(), token)
		if !errors.Is(err, wantErr) || server.calls.Load()-before != wantCalls {
			t.Errorf("%v after %d calls, want %v after %d", err, server.calls.Load()-before, wantErr, wantCalls)
		}
	}
	ask(good, nil, 1)
	ask(bad, auth.ErrInvalidToken, 1)
	c.advance(9 * time.Second)
	ask(good, nil, 0)
	ask(bad, auth.ErrInvalidToken, 0)
	c.advance(2 * time.Second)
	ask(bad, auth.ErrInvalidToken, 1)
	c.advance(50 * time.Second)
	ask(good, nil, 1)
	server.set(false, good, "") // deleted
	ask(good, nil, 0)
	c.advance(61 * time.Second)
	ask(good, auth.ErrInvalidToken, 1)

	// While the API server is unavailable a positive answer stays valid, for a while and until the token expires; a
	// negative one does not change.
	server.set(true, good, "team-a/app")
	c.advance(11 * time.Second)
	ask(good, auth.ErrUnavailable, 1)
	server.set(false, good, "team-a/app")
	c.advance(2 * time.Second)
	ask(good, nil, 1)
	server.set(true, good, "team-a/app")
	c.advance(61 * time.Second)
	ask(good, nil, 1)
	ask(good, nil, 0)
	c.advance(askAgain)
	ask(good, nil, 1)
	c.advance(staleFor)
	ask(good, auth.ErrUnavailable, 1)
	server.set(false, good, "team-a/app")
	c.advance(2 * time.Second)
	ask(good, nil, 1)
	c.advance(30 * time.Second)
	ask(good, nil, 0)
	c.advance(time.Hour)
	ask(good, auth.ErrInvalidToken, 0)
}

// TestOneReviewForMany checks that concurrent callers with one token wait for one answer, and that one who stops waiting
// does not affect the others.
func TestOneReviewForMany(t *testing.T) {
	a, server, _ := newTestAccounts(t)
	server.gate = make(chan struct{})
	token := accountToken(t, "team-a", "app", "1")
	server.set(false, token, "team-a/app")
	gone, leave := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() { _, err := a.authenticate(gone, token); first <- err }()
	eventually(t, "the review is under way", func() bool { return server.calls.Load() == 1 })
	leave()
	if err := <-first; !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("the cancelled caller: %v", err)
	}
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if _, err := a.authenticate(t.Context(), token); err != nil {
				t.Error(err)
			}
		})
	}
	close(server.gate)
	group.Wait()
	if calls := server.calls.Load(); calls != 1 {
		t.Errorf("%d calls, want 1", calls)
	}
}

func TestReviewsAreBounded(t *testing.T) {
	a, _, _ := newTestAccounts(t)
	payload := strings.Split(accountToken(t, "team-a", "app", "1"), ".")
	for i := range maxReviews + 200 {
		if _, err := a.authenticate(t.Context(), fmt.Sprintf("%s.%s.%d", payload[0], payload[1], i)); !errors.Is(err, auth.ErrInvalidToken) {
			t.Fatal(err)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.answers) > maxReviews {
		t.Errorf("%d answers are cached", len(a.answers))
	}
}

// TestServiceAccountOverHTTP checks that it may do what its role allows, and has no profile.
func TestServiceAccountOverHTTP(t *testing.T) {
	server := &apiServer{known: map[string]string{}, gate: make(chan struct{})}
	close(server.gate)
	s := settings()
	s.ServiceAccounts = []config.ServiceAccount{{Name: "system/manager", Role: "admin"}}
	r := start(t, database(t, servers.Postgres(t).Data()), s, Options{Reviewer: server})
	token := accountToken(t, "system", "manager", "1")
	server.set(false, token, "system/manager")
	r.wants("list users", r.call("GET", "/users", token, ""), 200, adminEmail)
	r.wants("no profile", r.call("GET", "/me", token, ""), 403)
	r.wants("another", r.call("GET", "/users", accountToken(t, "system", "manager", "2"), ""), 401)
	server.set(true, "", "x")
	r.wants("in an outage", r.call("GET", "/users", accountToken(t, "system", "manager", "3"), ""), 503)
	r.wants("a caller from before", r.call("GET", "/users", token, ""), 200)
}
