// SPDX-License-Identifier: Apache-2.0

// Package producttest runs a whole product service for a test, and calls it over HTTP.
package producttest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/internal/product"
)

// Values common to all services in tests.
const (
	Base      = api.Base
	Namespace = "shop"
	Platform  = "main"

	// AdminEmail and AdminPassword log the administrator in.
	AdminEmail    = "root@example.com"
	AdminPassword = "Correct-horse-9"

	password = "Engine-1843" // of all registered users
)

// Settings returns the configuration of a service on two schemas.
func Settings(name string, database, identity config.Database) *config.Service {
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	return &config.Service{
		Product: name, Platform: Platform, Namespace: Namespace, Generation: 1, Database: database, Identity: identity,
		Auth: config.Auth{
			Issuer: "https://shop.example.com", Keys: []config.Key{{ID: "k1", Algorithm: "HS256", Secret: base64.StdEncoding.EncodeToString(secret)}},
			OpenRegistration: true, Administrator: &config.Administrator{Email: AdminEmail, Password: AdminPassword},
		},
		RateLimit: config.RateLimit{RequestsPerMinute: -1},
		Audit:     config.Audit{Key: base64.StdEncoding.EncodeToString(secret)},
	}
}

// Own returns a product's own settings, for the configuration.
func Own(settings any) json.RawMessage {
	data, err := json.Marshal(settings)
	if err != nil {
		panic(err) // of plain structs
	}
	return data
}

// Running is a whole service, reached over HTTP.
type Running struct {
	T        testing.TB
	URL      string
	Settings *config.Service
	Logs     *Buffer // logs and audit lines
	Spill    string  // the directory the audit log spills to
	Stop     func()
	Admin    string // a token

	scrape string
}

// Buffer collects the output of several goroutines.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (b *Buffer) Write(p []byte) (int, error) { b.mu.Lock(); defer b.mu.Unlock(); return b.b.Write(p) }

// String returns everything that was written.
func (b *Buffer) String() string { b.mu.Lock(); defer b.mu.Unlock(); return b.b.String() }

// Start runs a service until the end of the test, or Stop. Its logs are printed if the test fails.
func Start(t testing.TB, p product.Product, settings *config.Service, kubernetes *rest.Config) *Running {
	t.Helper()
	r := &Running{T: t, Settings: settings, Logs: &Buffer{}, Spill: t.TempDir()}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(r.Logs)
		}
	})
	listening := make(chan string, 1)
	process := &product.Process{
		Product: p, Config: settings, Kubernetes: kubernetes, Addr: "127.0.0.1:0", SpillDir: r.Spill, Lines: r.Logs, HashCost: 4, DrainDelay: -1,
		Log:         slog.New(slog.NewJSONHandler(r.Logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		MetricsAddr: "127.0.0.1:0",
		Listening:   func(address, metrics string) { r.scrape = metrics; listening <- address },
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- process.Run(ctx) }()
	var once sync.Once
	r.Stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("the service ended: %v", err)
			}
		})
	}
	t.Cleanup(r.Stop)
	select {
	case address := <-listening:
		r.URL = "http://" + address
	case err := <-ended:
		ended <- err
		t.Fatalf("the service did not start: %v", err)
	}
	r.Wait("ready", r.Ready)
	r.Admin = r.Login(AdminEmail, AdminPassword)
	return r
}

// Ready reports whether the service is ready.
func (r *Running) Ready() bool {
	response, err := http.Get(r.URL + config.ReadyPath)
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// Wait polls until a condition holds.
func (r *Running) Wait(what string, condition func() bool) {
	r.T.Helper()
	for deadline := time.Now().Add(time.Minute); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.T.Fatalf("not within a minute: %s", what)
		}
	}
}

// Metrics scrapes the service.
func (r *Running) Metrics() string {
	r.T.Helper()
	response, err := http.Get("http://" + r.scrape + "/metrics")
	if err != nil {
		r.T.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		r.T.Fatal(err)
	}
	return string(body)
}

// Login returns a token.
func (r *Running) Login(user, password string) string {
	r.T.Helper()
	response, err := http.PostForm(r.URL+Base+"/token", url.Values{"grant_type": {"password"}, "username": {user}, "password": {password}})
	if err != nil {
		r.T.Fatal(err)
	}
	defer response.Body.Close()
	var token struct {
		AccessToken string `json:"access_token"`
	}
	body, _ := io.ReadAll(response.Body)
	if err := json.Unmarshal(body, &token); err != nil || token.AccessToken == "" {
		r.T.Fatalf("login of %s: %d %s", user, response.StatusCode, body)
	}
	return token.AccessToken
}

// Register creates a user with a role on the product, or none, and returns a token.
func (r *Running) Register(email, role string) string {
	r.T.Helper()
	u := Must[struct {
		ID string `json:"id"`
	}](r, http.StatusCreated, "", "POST", "/register", map[string]string{"email": email, "password": password})
	if role != "" {
		Must[any](r, http.StatusOK, r.Admin, "PUT", "/users/"+u.ID+"/grants", map[string]any{
			"grants": []map[string]string{{"product": r.Settings.Product, "namespace": r.Settings.Namespace, "role": role}},
		})
	}
	return r.Login(email, password)
}

// Response is a response, read.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

// Call sends a request; body is JSON text, or any value to marshal.
func (r *Running) Call(token, method, path string, body any, headers ...string) Response {
	r.T.Helper()
	out, err := r.Try(token, method, path, body, headers...)
	if err != nil {
		r.T.Fatal(err)
	}
	return out
}

// Try is Call to a service that may be down.
func (r *Running) Try(token, method, path string, body any, headers ...string) (out Response, err error) {
	var in io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		in = strings.NewReader(b)
	default:
		data, err := json.Marshal(b)
		if err != nil {
			return out, err
		}
		in = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(r.T.Context(), method, r.URL+Base+path, in)
	if err != nil {
		return out, err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return out, err
	}
	defer answer.Body.Close()
	out.Status, out.Header = answer.StatusCode, answer.Header
	out.Body, err = io.ReadAll(answer.Body)
	return out, err
}

// Must sends a request, checks the status, and returns the data.
func Must[T any](r *Running, status int, token, method, path string, body any, headers ...string) T {
	r.T.Helper()
	answer := r.Call(token, method, path, body, headers...)
	if answer.Status != status {
		r.T.Fatalf("%s %s: %d %s, want %d", method, path, answer.Status, answer.Body, status)
	}
	var envelope struct {
		Data T `json:"data"`
	}
	if len(answer.Body) > 0 {
		if err := json.Unmarshal(answer.Body, &envelope); err != nil {
			r.T.Fatalf("%s %s: %v: %s", method, path, err, answer.Body)
		}
	}
	return envelope.Data
}

// Refusal is the error in a response.
type Refusal struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Details []struct {
		Field   string `json:"field"`
		Message string `json:"message"`
	} `json:"details"`
}

// Refusal parses the envelope of an error.
func (a Response) Refusal(t testing.TB) Refusal {
	t.Helper()
	var envelope struct {
		Success bool    `json:"success"`
		Error   Refusal `json:"error"`
	}
	if err := json.Unmarshal(a.Body, &envelope); err != nil || envelope.Success || envelope.Error.Code == "" {
		t.Fatalf("%d is not an error envelope: %s", a.Status, a.Body)
	}
	return envelope.Error
}

// Field returns the first field that a refusal names; empty: none.
func (f Refusal) Field() string {
	if len(f.Details) == 0 {
		return ""
	}
	return f.Details[0].Field
}
