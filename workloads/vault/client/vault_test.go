// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest"
	vault "github.com/itechsmart/operator/workloads/vault/client"
	"github.com/itechsmart/operator/workloads/vault/client/clienttest"
)

func sealFake(_ testing.TB, namespace, name string, value vault.Value) string {
	return vault.SealFake(namespace, name, value)
}

func TestFake(t *testing.T) {
	clienttest.Run(t, func(testing.TB) clienttest.UnderTest {
		return clienttest.UnderTest{Client: vault.NewFake("tenant"), Namespace: "tenant", Seal: sealFake}
	})
}

// TestClient runs the suite through the client and a server that serves the fake according to the contract.
func TestClient(t *testing.T) {
	clienttest.Run(t, func(t testing.TB) clienttest.UnderTest {
		server := httptest.NewServer(serve(vault.NewFake("tenant")))
		t.Cleanup(server.Close)
		return clienttest.UnderTest{Client: open(t, server.URL), Namespace: "tenant", Seal: sealFake}
	})
}

func open(t testing.TB, endpoint string) vault.Client {
	t.Helper()
	client, err := vault.New(vault.Options{Endpoint: endpoint, Token: vault.StaticToken("good")})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// answering returns a server that always sends the same response, and counts requests.
func answering(t *testing.T, status int, body string) (endpoint string, requests *atomic.Int32) {
	t.Helper()
	requests = &atomic.Int32{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}))
	t.Cleanup(server.Close)
	return server.URL, requests
}

func TestErrors(t *testing.T) {
	refusal := func(code, message string) string {
		return fmt.Sprintf(`{"success":false,"error":{"code":%q,"message":%q}}`, code, message)
	}
	for name, test := range map[string]struct {
		status int
		body   string
		want   error
		text   string
		times  int32
	}{
		"401":             {401, refusal("unauthorized", "token expired"), backend.ErrAuth, "token expired", 1},
		"403":             {403, refusal("forbidden", "no"), backend.ErrAuth, "", 1},
		"404":             {404, refusal("not_found", "no"), backend.ErrNotFound, "", 1},
		"409":             {409, refusal("conflict", "no"), backend.ErrExists, "", 1},
		"412":             {412, refusal("stale", "version 3"), vault.ErrStale, "version 3", 1},
		"422":             {422, refusal("invalid", "value.text is missing"), backend.ErrInvalid, "value.text is missing", 1},
		"429":             {429, refusal("rate_limited", "slow down"), backend.ErrUnavailable, "", 1},
		"500":             {500, "<html>", backend.ErrUnavailable, "500", 1},
		"502":             {502, "", backend.ErrUnavailable, "", 3},
		"503 sealed":      {503, refusal("sealed", "unseal first"), vault.ErrSealed, "", 1},
		"503":             {503, refusal("audit_full", "the audit log is full"), backend.ErrUnavailable, "audit log", 1},
		"redirect":        {302, "", backend.ErrUnavailable, "", 1},
		"no envelope":     {200, `{"a":1}`, backend.ErrUnavailable, "not from the Vault service", 1},
		"no JSON":         {200, `hello`, backend.ErrUnavailable, "not from the Vault service", 1},
		"another shape":   {200, `{"success":true,"data":{"version":"canary"}}`, backend.ErrUnavailable, "expected fields", 1},
		"endless answer":  {200, strings.Repeat("x", 9<<20), backend.ErrInvalid, "bytes", 1},
		"endless message": {400, refusal("invalid", strings.Repeat("y", 5000)), backend.ErrInvalid, "…", 1},
	} {
		t.Run(name, func(t *testing.T) {
			endpoint, requests := answering(t, test.status, test.body)
			_, err := open(t, endpoint).Secret(backendtest.Context(t), "a")
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.text) {
				t.Fatalf("got %v, want %v containing %q", err, test.want, test.text)
			}
			if len(err.Error()) > 1000 || strings.Contains(err.Error(), "canary") {
				t.Errorf("the error is too long or contains a value: %.80s", err)
			}
			if requests.Load() != test.times {
				t.Errorf("%d requests, want %d", requests.Load(), test.times)
			}
		})
	}
}

func TestConnectionRefused(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	endpoint := server.URL
	server.Close()
	_, err := open(t, endpoint).SealStatus(backendtest.Context(t))
	if !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
}

func TestTokenIsReread(t *testing.T) {
	fake := vault.NewFake("tenant")
	var seen atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.Store(r.Header.Get("Authorization"))
		serve(fake).ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	file := filepath.Join(t.TempDir(), "token")
	client, err := vault.New(vault.Options{Endpoint: server.URL, Token: vault.TokenFromFile(file)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Secret(backendtest.Context(t), "a"); !errors.Is(err, backend.ErrAuth) {
		t.Errorf("without a token: %v, want ErrAuth", err)
	}
	for _, token := range []string{"first", "second"} {
		if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Secret(backendtest.Context(t), "a"); errors.Is(err, backend.ErrUnavailable) {
			t.Fatal(err)
		}
		if seen.Load() != "Bearer "+token {
			t.Errorf("the request does not carry the token of the file")
		}
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Secret(backendtest.Context(t), "a"); !errors.Is(err, backend.ErrAuth) {
		t.Errorf("an empty token: %v, want ErrAuth", err)
	}
	if _, err := client.SealStatus(backendtest.Context(t)); err != nil {
		t.Errorf("the seal status needs no token: %v", err)
	}
}

// TestIdempotency checks that retries of a request share one key, and two requests have two.
func TestIdempotency(t *testing.T) {
	var keys []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		keys = append(keys, r.Header.Get("Idempotency-Key"))
		w.WriteHeader(http.StatusBadGateway)
	}))
	client := open(t, server.URL)
	for range 2 {
		if _, err := client.Rotate(backendtest.Context(t), "a"); !errors.Is(err, backend.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	}
	server.Close()
	if len(keys) != 6 || keys[0] == "" || keys[0] != keys[2] || keys[0] == keys[3] || keys[3] != keys[5] {
		t.Errorf("keys %v, want two keys, three times each", keys)
	}
}

func TestSlowServer(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	t.Cleanup(func() { close(release); server.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := open(t, server.URL).SealStatus(ctx)
	if !errors.Is(err, backend.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want context.DeadlineExceeded", err)
	}
}

func TestNew(t *testing.T) {
	for _, endpoint := range []string{"", "vault:8080", "ftp://vault", "http://user:password@vault", "http://vault?a=b", "http://"} {
		_, err := vault.New(vault.Options{Endpoint: endpoint})
		if !errors.Is(err, backend.ErrInvalid) {
			t.Errorf("%q: %v, want ErrInvalid", endpoint, err)
		}
		if err != nil && strings.Contains(err.Error(), "password") {
			t.Error("the error contains a password")
		}
	}
}

func TestSealed(t *testing.T) {
	fake := vault.NewFake("tenant")
	server := httptest.NewServer(serve(fake))
	t.Cleanup(server.Close)
	client, ctx := open(t, server.URL), backendtest.Context(t)
	if err := client.Seal(ctx); err != nil {
		t.Fatal(err)
	}
	_, err := client.Create(ctx, "a", vault.Write{Type: vault.TypeText, Value: vault.Value{vault.FieldText: []byte("x")}})
	if !errors.Is(err, vault.ErrSealed) || !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("got %v, want ErrSealed", err)
	}
	status, err := client.Unseal(ctx, "share")
	if err != nil || status.Sealed {
		t.Errorf("after unsealing: %+v, %v", status, err)
	}
}

// A file over 1 MiB is listed, but cannot be read as a whole.
func TestLargeFile(t *testing.T) {
	fake := vault.NewFake("tenant")
	server := httptest.NewServer(serve(fake))
	t.Cleanup(server.Close)
	if err := fake.PutLarge("backup", 20<<20); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]vault.Client{"fake": fake, "client": open(t, server.URL)} {
		if s, err := c.Secret(t.Context(), "backup"); err != nil || s.Size != 20<<20 {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
		if _, err := c.Read(t.Context(), "backup", 0); !errors.Is(err, vault.ErrStreamed) || !errors.Is(err, backend.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestValuesAreNotPrinted(t *testing.T) {
	value := vault.Value{vault.FieldText: []byte("canary")}
	for _, text := range []string{fmt.Sprint(value), fmt.Sprintf("%+v %#v", vault.Read{Value: value}, vault.Write{Value: value})} {
		if strings.Contains(text, "canary") || strings.Contains(text, "99 97 110") {
			t.Errorf("a formatted value contains its content: %s", text)
		}
	}
}
