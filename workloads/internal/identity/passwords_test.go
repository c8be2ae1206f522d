// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/itechsmart/operator/workloads/internal/audit"
)

// occupy keeps every worker busy, and fills the queue, until the returned function is called.
func occupy(t *testing.T, h *hasher) (release func()) {
	t.Helper()
	gate := make(chan struct{})
	var group sync.WaitGroup
	for range cap(h.jobs) + 64 { // more than there can be workers
		group.Go(func() { _ = h.run(context.Background(), func() { <-gate }) })
	}
	eventually(t, "the queue is full", func() bool { return len(h.jobs) == cap(h.jobs) })
	return func() { close(gate); group.Wait() }
}

func TestFullQueue(t *testing.T) {
	r := one(t)
	_, tokens := r.ada()
	release := occupy(t, r.hasher)
	for what, a := range map[string]answer{
		"login":    r.password(adaEmail, adaPassword),
		"unknown":  r.password("nobody@example.com", adaPassword),
		"register": r.call(http.MethodPost, "/register", "", `{"email":"eve@example.com","password":"canary-Eve-1!"}`),
		"change":   r.call(http.MethodPut, "/me", tokens.AccessToken, `{"password":"canary-New-1!","oldPassword":"`+adaPassword+`"}`),
	} {
		r.wants(what, a, 503)
		if a.header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", what)
		}
	}
	// Tokens need no bcrypt: sessions continue.
	r.wants("me", r.call(http.MethodGet, "/me", tokens.AccessToken, ""), 200)
	r.wants("refresh", r.refreshWith(tokens.RefreshToken), 200)
	release()
	r.wants("login after", r.password(adaEmail, adaPassword), 200)
}

func TestHasher(t *testing.T) {
	h, err := newHasher(4, 2, 4)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := h.hash(t.Context(), "canary")
	if err != nil {
		t.Fatal(err)
	}
	for password, want := range map[string]bool{"canary": true, "Canary": false, "": false} {
		if got, err := h.matches(t.Context(), hash, password); err != nil || got != want {
			t.Errorf("%q: %t %v", password, got, err)
		}
	}
	if got, err := h.matches(t.Context(), "", "canary"); err != nil || got {
		t.Errorf("without a hash: %t %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.hash(ctx, "canary"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	h.close()
	if _, err := h.hash(t.Context(), "canary"); !errors.Is(err, errBusy) {
		t.Errorf("closed: %v", err)
	}
	full, err := newHasher(0, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer full.close()
	if cost, err := bcrypt.Cost(full.dummy); err != nil || cost != 12 {
		t.Errorf("the default cost is %d (%v)", cost, err)
	}
}

// TestUnknownUserTakesAsLong: bcrypt dominates either way; without the dummy hash the response would be a thousand times
// faster. The limit is wide because the machine may be busy.
func TestUnknownUserTakesAsLong(t *testing.T) {
	h, err := newHasher(6, 1, 4)
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	hash, err := h.hash(t.Context(), "canary")
	if err != nil {
		t.Fatal(err)
	}
	timed := func(hash string) time.Duration {
		begin := time.Now()
		if same, err := h.matches(t.Context(), hash, "canary-no"); err != nil || same {
			t.Fatal(same, err)
		}
		return time.Since(begin)
	}
	var known, unknown []time.Duration
	for range 10 {
		known, unknown = append(known, timed(hash)), append(unknown, timed(""))
	}
	if slices.Min(unknown) < slices.Min(known)/4 {
		t.Errorf("an unknown user is refused in %s, a known one in %s", slices.Min(unknown), slices.Min(known))
	}
}

func TestLockout(t *testing.T) {
	r := one(t)
	r.ada()
	for _, email := range []string{adaEmail, "nobody@example.com", "not an address"} {
		for i := range freeFailures {
			r.wants(email+" "+strconv.Itoa(i), r.password(email, "canary-no"), 400)
		}
		locked := r.password(email, "canary-no")
		r.wants(email+" locked", locked, 429)
		if wait, err := strconv.Atoi(locked.header.Get("Retry-After")); err != nil || wait < 1 || wait > 2 {
			t.Errorf("Retry-After %q, want 1 s", locked.header.Get("Retry-After"))
		}
	}
	r.wants("the right password waits too", r.password(adaEmail, adaPassword), 429)
	r.wants("on the page as well", r.login(adaPassword), 429)
	// Another failure doubles the pause, on any replica.
	elapse := func() {
		t.Helper()
		if _, err := r.users.pool.Exec(t.Context(), "UPDATE login_failures SET locked_until = now()"); err != nil {
			t.Fatal(err)
		}
	}
	elapse()
	r.wants("once more", r.password(adaEmail, "canary-no"), 400)
	if wait, err := strconv.Atoi(r.password(adaEmail, adaPassword).header.Get("Retry-After")); err != nil || wait != 2 {
		t.Errorf("Retry-After %d, want 2 s (%v)", wait, err)
	}
	elapse()
	r.wants("the right password", r.password(adaEmail, adaPassword), 200)
	r.wants("forgotten", r.password(adaEmail, "canary-no"), 400)
	r.wants("from the start", r.password(adaEmail, adaPassword), 200)
	var accounts int
	if err := r.users.pool.QueryRow(t.Context(), "SELECT count(*) FROM login_failures WHERE account LIKE '%@%' OR account LIKE '% %'").Scan(&accounts); err != nil || accounts != 0 {
		t.Errorf("%d accounts in plain text (%v)", accounts, err)
	}
	if r.events.count("login", audit.Denied, "user/"+adaEmail) < freeFailures || r.events.count("login", audit.Denied, "user/unknown") < freeFailures {
		t.Error("failed logins are not recorded")
	}
	// The pause is bounded, and old failures do not count.
	if _, err := r.users.pool.Exec(t.Context(), "UPDATE login_failures SET failures = 900, locked_until = now()"); err != nil {
		t.Fatal(err)
	}
	r.wants("the 901st", r.password("nobody@example.com", "canary-no"), 400)
	if wait, err := strconv.Atoi(r.password("nobody@example.com", "canary-no").header.Get("Retry-After")); err != nil || wait != int(maxPause.Seconds()) {
		t.Errorf("Retry-After %d, want %s (%v)", wait, maxPause, err)
	}
	if _, err := r.users.pool.Exec(t.Context(), "UPDATE login_failures SET last_failure = now() - interval '31 minutes', locked_until = now() + interval '1 hour'"); err != nil {
		t.Fatal(err)
	}
	r.wants("long after", r.password("nobody@example.com", "canary-no"), 400)
}

func TestPurge(t *testing.T) {
	r := one(t)
	_, tokens := r.ada()
	r.login(adaPassword)
	r.password("nobody@example.com", "canary-no")
	count := func() (n int) {
		t.Helper()
		err := r.users.pool.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM refresh_tokens) + (SELECT count(*) FROM authorization_codes)
			+ (SELECT count(*) FROM sessions) + (SELECT count(*) FROM login_failures)`).Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if err := r.purgeOnce(t.Context()); err != nil || count() != 4 {
		t.Errorf("%d rows, want a token, a code, a session and a failure (%v)", count(), err)
	}
	r.wants("still good", r.refreshWith(tokens.RefreshToken), 200)
	if _, err := r.users.pool.Exec(t.Context(), `UPDATE refresh_tokens SET expires_at = now() - interval '2 hours';
		UPDATE authorization_codes SET expires_at = now() - interval '2 hours'; UPDATE sessions SET expires_at = now() - interval '2 hours';
		UPDATE login_failures SET last_failure = now() - interval '2 hours'`); err != nil {
		t.Fatal(err)
	}
	if err := r.purgeOnce(t.Context()); err != nil || count() != 0 {
		t.Errorf("%d rows stay (%v)", count(), err)
	}
}
