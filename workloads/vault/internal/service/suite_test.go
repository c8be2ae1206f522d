// SPDX-License-Identifier: Apache-2.0

package service

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
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/product"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(asService); dir != "" {
		os.Exit(serve(dir))
	}
	servers.Main(m)
}

const (
	adminEmail, adminPassword = "root@example.com", "Correct-horse-9"
	namespace, platform       = "shop", "main"
)

// running is a whole service with its database, reached over HTTP.
type running struct {
	t        testing.TB
	url      string
	scrape   string
	binding  backend.Binding
	settings *config.Service
	logs     *buffer // logs and audit lines
	stop     func()
	admin    string // a token
}

// buffer collects what several goroutines write.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) { b.mu.Lock(); defer b.mu.Unlock(); return b.b.Write(p) }
func (b *buffer) String() string              { b.mu.Lock(); defer b.mu.Unlock(); return b.b.String() }

// settingsOn makes two schemas on a server, and a configuration that uses them.
func settingsOn(t testing.TB, b backend.Binding) *config.Service {
	t.Helper()
	name, identity := servers.SchemaOn(t, b), servers.SchemaOn(t, b)
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	return &config.Service{
		Product: productName, Platform: platform, Namespace: namespace, Generation: 1,
		Database: config.Database{Binding: b.Data(), Schema: name, MinConnections: 2, MaxConnections: 8},
		Identity: config.Database{Binding: b.Data(), Schema: identity, MinConnections: 1, MaxConnections: 4},
		Auth: config.Auth{
			Issuer: "https://shop.example.com", Keys: []config.Key{{ID: "k1", Algorithm: "HS256", Secret: base64.StdEncoding.EncodeToString(secret)}},
			OpenRegistration: true, Administrator: &config.Administrator{Email: adminEmail, Password: adminPassword},
		},
		RateLimit: config.RateLimit{RequestsPerMinute: -1},
		Audit:     config.Audit{Key: base64.StdEncoding.EncodeToString(secret)},
		Vault:     &config.Vault{Passphrase: "a passphrase of the test " + rand.Text()},
	}
}

// start runs a service until the end of the test, or stop.
func start(t testing.TB, settings *config.Service, kubernetes *rest.Config, spill string) *running {
	t.Helper()
	r := &running{t: t, settings: settings, binding: backend.ParseBinding(settings.Database.Binding), logs: &buffer{}}
	listening := make(chan string, 1)
	p := &product.Process{
		Product: Product(),
		Config:  settings, Kubernetes: kubernetes, Addr: "127.0.0.1:0", SpillDir: spill, Lines: r.logs, HashCost: 4, DrainDelay: -1,
		Log:         slog.New(slog.NewJSONHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		MetricsAddr: "127.0.0.1:0",
		Listening:   func(address, metrics string) { r.scrape = metrics; listening <- address },
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	var once sync.Once
	r.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("the service ended: %v", err)
			}
		})
	}
	t.Cleanup(r.stop)
	select {
	case address := <-listening:
		r.url = "http://" + address
	case err := <-ended:
		ended <- err
		t.Fatalf("the service did not start: %v", err)
	}
	r.wait("ready", r.ready)
	r.admin = r.login(adminEmail, adminPassword)
	return r
}

func (r *running) ready() bool {
	response, err := http.Get(r.url + config.ReadyPath)
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode == http.StatusOK
}

func (r *running) wait(what string, condition func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(time.Minute); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("not within a minute: %s\n%s", what, r.logs)
		}
	}
}

// metrics is a scrape.
func (r *running) metrics() string {
	r.t.Helper()
	response, err := http.Get("http://" + r.scrape + "/metrics")
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || !strings.Contains(string(body), "itechsmart_vault_sealed") {
		r.t.Fatalf("metrics: %v: %s", err, body)
	}
	return string(body)
}

func (r *running) login(user, password string) string {
	r.t.Helper()
	response, err := http.PostForm(r.url+base+"/token", url.Values{"grant_type": {"password"}, "username": {user}, "password": {password}})
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	var token struct {
		AccessToken string `json:"access_token"`
	}
	body, _ := io.ReadAll(response.Body)
	if err := json.Unmarshal(body, &token); err != nil || token.AccessToken == "" {
		r.t.Fatalf("login of %s: %d %s", user, response.StatusCode, body)
	}
	return token.AccessToken
}

// response is an answer that was read.
type response struct {
	status int
	header http.Header
	body   []byte
}

// call sends a request; body is JSON text, or any value that is marshalled.
func (r *running) call(token, method, path string, body any, headers ...string) response {
	r.t.Helper()
	out, err := r.try(token, method, path, body, headers...)
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

// try is call to a service that may be gone.
func (r *running) try(token, method, path string, body any, headers ...string) (out response, err error) {
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
	request, err := http.NewRequestWithContext(r.t.Context(), method, r.url+base+path, in)
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
	out.status, out.header = answer.StatusCode, answer.Header
	out.body, err = io.ReadAll(answer.Body)
	return out, err
}

// must calls, checks the status, and reads the data.
func must[T any](r *running, status int, token, method, path string, body any, headers ...string) T {
	r.t.Helper()
	answer := r.call(token, method, path, body, headers...)
	if answer.status != status {
		r.t.Fatalf("%s %s: %d %s, want %d", method, path, answer.status, answer.body, status)
	}
	var envelope struct {
		Data T `json:"data"`
	}
	if len(answer.body) > 0 {
		if err := json.Unmarshal(answer.body, &envelope); err != nil {
			r.t.Fatalf("%s %s: %v: %s", method, path, err, answer.body)
		}
	}
	return envelope.Data
}

// refused is the error of an answer.
type refused struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Details []struct {
		Field   string `json:"field"`
		Message string `json:"message"`
	} `json:"details"`
}

func (a response) refusal(t testing.TB) refused {
	t.Helper()
	var envelope struct {
		Success bool    `json:"success"`
		Error   refused `json:"error"`
	}
	if err := json.Unmarshal(a.body, &envelope); err != nil || envelope.Success || envelope.Error.Code == "" {
		t.Fatalf("%d is no error's envelope: %s", a.status, a.body)
	}
	return envelope.Error
}
