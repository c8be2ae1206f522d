// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/internal/api"
)

// postgres returns a pool on a schema of the test's own, which contains the table.
func postgres(t testing.TB) *pgxpool.Pool {
	t.Helper()
	b := servers.Postgres(t)
	schema := "idempotency_" + strings.ToLower(strings.NewReplacer("/", "_").Replace(t.Name()))
	dsn := url.URL{Scheme: "postgres", User: url.UserPassword(b.Username, b.Password), Host: b.Address(), Path: b.Database}
	config, err := pgxpool.ParseConfig(dsn.String())
	if err != nil {
		t.Fatal(err)
	}
	config.ConnConfig.RuntimeParams["search_path"] = schema
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	migration, err := api.Migrations.ReadFile("migrations/00001_idempotency.sql")
	if err != nil {
		t.Fatal(err)
	}
	up, _, _ := strings.Cut(string(migration), "-- +goose Down")
	if _, err := pool.Exec(t.Context(), "CREATE SCHEMA "+schema+";"+up); err != nil {
		t.Fatal(err)
	}
	return pool
}

// stores runs a test on every store.
func stores(t *testing.T, test func(*testing.T, api.Store)) {
	t.Run("memory", func(t *testing.T) { test(t, api.NewMemoryStore(100)) })
	t.Run("postgres", func(t *testing.T) { test(t, api.NewPostgresStore(postgres(t))) })
}

func idempotent(t testing.TB, store api.Store) func(http.Handler) http.Handler {
	t.Helper()
	wrap, err := api.Idempotency(store, api.IdempotencyOptions{Key: []byte(testKey)})
	if err != nil {
		t.Fatal(err)
	}
	return wrap
}

const key = "Idempotency-Key"

func TestIdempotency(t *testing.T) {
	stores(t, func(t *testing.T, store api.Store) {
		s := serve(t, idempotent(t, store))
		const body = `{"name":"a","text":"1"}`
		first := s.do(t, http.MethodPost, "/api/v1/notes", body, key, "k1")
		again := s.do(t, http.MethodPost, "/api/v1/notes", body, key, "k1")
		if first.status != http.StatusCreated || again.status != first.status || again.body != first.body || again.header.Get("ETag") != first.header.Get("ETag") {
			t.Errorf("first %d %s, again %d %s", first.status, first.body, again.status, again.body)
		}
		if first.header.Get("Idempotency-Replayed") != "" || again.header.Get("Idempotency-Replayed") != "true" || s.notes.created != 1 {
			t.Errorf("replayed %q, %q; made %d", first.header, again.header, s.notes.created)
		}
		if first.header.Get("X-Request-Id") == again.header.Get("X-Request-Id") {
			t.Error("the id of the first request was replayed")
		}
		for name, c := range map[string]struct {
			body   string
			header []string
			status int
			code   string
		}{
			"another body":      {`{"name":"b","text":"1"}`, []string{key, "k1"}, 422, "idempotency_key_reused"},
			"another sender":    {body, []string{key, "k1", "Authorization", "Bearer other"}, 409, "conflict"},
			"another key":       {body, []string{key, "k2"}, 409, "conflict"},
			"no key":            {body, nil, 409, "conflict"},
			"an empty key":      {body, []string{key, " "}, 400, "bad_request"},
			"a space":           {body, []string{key, "a b"}, 400, "bad_request"},
			"a long key":        {body, []string{key, strings.Repeat("a", 256)}, 400, "bad_request"},
			"a body of bad use": {`{"name":"a"`, []string{key, "k3"}, 400, "bad_request"},
		} {
			got := s.do(t, http.MethodPost, "/api/v1/notes", c.body, c.header...)
			if code, _ := got.problem(t); got.status != c.status || code != c.code {
				t.Errorf("%s: %d %s, want %d %s", name, got.status, code, c.status, c.code)
			}
		}
		if got := s.do(t, http.MethodPost, "/api/v1/fail", "", key, "k1"); got.status != http.StatusInternalServerError {
			t.Errorf("a key of another path, without a login: %d %s", got.status, got.body)
		}
		// A failure of ours leaves the key free.
		for range 2 {
			if got := s.do(t, http.MethodPost, "/api/v1/fail", "", key, "k4"); got.status != http.StatusInternalServerError || got.header.Get("Idempotency-Replayed") != "" {
				t.Errorf("a failure: %d %v", got.status, got.header)
			}
		}
	})
}

// blocking is a handler that waits until it is released.
type blocking struct {
	entered, release chan struct{}
	done             int
}

func (b *blocking) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	b.entered <- struct{}{}
	<-b.release
	b.done++
	w.WriteHeader(http.StatusAccepted)
}

func TestIdempotencyInProgress(t *testing.T) {
	stores(t, func(t *testing.T, store api.Store) {
		handler := &blocking{entered: make(chan struct{}, 1), release: make(chan struct{})}
		wrap := idempotent(t, store)
		s := serve(t, func(http.Handler) http.Handler { return wrap(handler) })
		var first answered
		var group sync.WaitGroup
		group.Go(func() { first = s.do(t, http.MethodPost, "/", "1", key, "k") })
		<-handler.entered
		second := s.do(t, http.MethodPost, "/", "1", key, "k")
		if code, _ := second.problem(t); second.status != http.StatusConflict || code != "idempotency_key_in_use" || second.header.Get("Retry-After") == "" {
			t.Errorf("while the first is in progress: %d %s", second.status, second.body)
		}
		close(handler.release)
		group.Wait()
		third := s.do(t, http.MethodPost, "/", "1", key, "k")
		if first.status != http.StatusAccepted || third.status != http.StatusAccepted || handler.done != 1 {
			t.Errorf("first %d, third %d, done %d times", first.status, third.status, handler.done)
		}
	})
}

func TestIdempotencyRace(t *testing.T) {
	stores(t, func(t *testing.T, store api.Store) {
		s := serve(t, idempotent(t, store))
		statuses := make([]int, 16)
		var group sync.WaitGroup
		for i := range statuses {
			group.Go(func() {
				statuses[i] = s.do(t, http.MethodPost, "/api/v1/notes", `{"name":"a","text":""}`, key, "k").status
			})
		}
		group.Wait()
		succeeded := 0
		for _, status := range statuses {
			switch status {
			case http.StatusCreated:
				succeeded++
			case http.StatusConflict:
			default:
				t.Errorf("status %d", status)
			}
		}
		if succeeded == 0 || s.notes.created != 1 {
			t.Errorf("%d successful responses, %d notes created", succeeded, s.notes.created)
		}
	})
}

func TestStoreLease(t *testing.T) {
	store := api.NewPostgresStore(postgres(t))
	ctx, id := t.Context(), []byte("id")
	claim := func(name string, lease time.Duration) api.Claim {
		t.Helper()
		c, err := store.Claim(ctx, id, name, []byte("f"), lease)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if !claim("crashed", -time.Second).Mine || !claim("second", time.Minute).Mine {
		t.Fatal("a key whose lease is over is not free")
	}
	if c := claim("third", time.Minute); c.Mine || c.Answer != nil || string(c.Fingerprint) != "f" {
		t.Fatalf("a key in progress: %+v", c)
	}
	// The slow one must not overwrite or free the key.
	if err := errors.Join(store.Finish(ctx, id, "crashed", []byte("late"), time.Hour), store.Release(ctx, id, "crashed"), store.Finish(ctx, id, "second", []byte("answer"), -time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := store.Sweep(ctx); err != nil || n != 1 {
		t.Fatalf("swept %d, %v", n, err)
	}
	if !claim("fourth", time.Minute).Mine {
		t.Fatal("a key that was swept is not free")
	}
}

func TestStoredResponsesAreEncrypted(t *testing.T) {
	pool := postgres(t)
	s := serve(t, idempotent(t, api.NewPostgresStore(pool)))
	s.do(t, http.MethodPost, "/api/v1/notes", `{"name":"canary","text":"canary"}`, key, "canary", "Authorization", "Bearer canary")
	var dump string
	if err := pool.QueryRow(t.Context(), `SELECT string_agg(encode(id, 'escape') || claim || encode(fingerprint, 'escape') || encode(answer, 'escape'), ' ') FROM api_idempotency`).Scan(&dump); err != nil {
		t.Fatal(err)
	}
	if dump == "" || strings.Contains(dump, "canary") {
		t.Errorf("the row contains the input: %q", dump)
	}
	// A row that was moved or modified does not open.
	if _, err := pool.Exec(t.Context(), `UPDATE api_idempotency SET answer = set_byte(answer, 20, 255 - get_byte(answer, 20))`); err != nil {
		t.Fatal(err)
	}
	if got := s.do(t, http.MethodPost, "/api/v1/notes", `{"name":"canary","text":"canary"}`, key, "canary", "Authorization", "Bearer canary"); got.status != http.StatusServiceUnavailable {
		t.Errorf("a changed row: %d %s", got.status, got.body)
	}
}

// failing is an unavailable store.
type failing struct{}

func (failing) Claim(context.Context, []byte, string, []byte, time.Duration) (api.Claim, error) {
	return api.Claim{}, errSecret
}

func (failing) Finish(context.Context, []byte, string, []byte, time.Duration) error { return errSecret }
func (failing) Release(context.Context, []byte, string) error                       { return errSecret }

func TestIdempotencyStoreDown(t *testing.T) {
	s := serve(t, idempotent(t, failing{}))
	got := s.do(t, http.MethodPost, "/api/v1/notes", `{"name":"a","text":""}`, key, "k")
	if got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" || s.notes.created != 0 || strings.Contains(got.body, "hunter2") {
		t.Errorf("%d %s, %d made", got.status, got.body, s.notes.created)
	}
}

func TestMemoryStoreIsBounded(t *testing.T) {
	store := api.NewMemoryStore(2)
	for i, want := range []error{nil, nil, api.ErrStoreFull} {
		_, err := store.Claim(t.Context(), []byte{byte(i)}, "n", nil, time.Minute)
		if !errors.Is(err, want) {
			t.Errorf("key %d: %v, want %v", i, err, want)
		}
	}
}

// TestIdempotencyExcept checks that a handler that implements keys itself gets every request.
func TestIdempotencyExcept(t *testing.T) {
	wrap, err := api.Idempotency(api.NewMemoryStore(10), api.IdempotencyOptions{Key: []byte(testKey), Except: func(r *http.Request) bool { return r.URL.Path == "/own" }})
	if err != nil {
		t.Fatal(err)
	}
	calls := map[string]int{}
	handler := wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { calls[r.URL.Path]++ }))
	for _, path := range []string{"/own", "/own", "/kit", "/kit"} {
		request := httptest.NewRequest(http.MethodPost, path, strings.NewReader("{}"))
		request.Header.Set("Idempotency-Key", "key-of-"+path[1:])
		handler.ServeHTTP(httptest.NewRecorder(), request)
	}
	if calls["/own"] != 2 || calls["/kit"] != 1 {
		t.Errorf("calls %v", calls)
	}
}

func TestIdempotencyKey(t *testing.T) {
	for name, c := range map[string]struct {
		header http.Header
		ask    string
		key    string
		bad    bool
	}{
		"none":          {http.Header{}, "", "", false},
		"the usual":     {http.Header{"Idempotency-Key": {"k"}}, "", "k", false},
		"another":       {http.Header{"X-Request-Key": {"k"}}, "x-request-key", "k", false},
		"twice":         {http.Header{"Idempotency-Key": {"k", "k"}}, "", "", true},
		"empty":         {http.Header{"Idempotency-Key": {""}}, "", "", true},
		"with a space":  {http.Header{"Idempotency-Key": {"a b"}}, "", "", true},
		"one too long":  {http.Header{"Idempotency-Key": {strings.Repeat("k", 256)}}, "", "", true},
		"not requested": {http.Header{"Idempotency-Key": {"k"}}, "X-Key", "", false},
	} {
		if key, err := api.IdempotencyKey(c.header, c.ask); key != c.key || (err != nil) != c.bad {
			t.Errorf("%s: %q %v", name, key, err)
		}
	}
}
