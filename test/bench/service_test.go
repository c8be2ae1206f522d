// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/config"
)

// ourService is a product's service in a process of its own, with a PostgreSQL.
type ourService struct {
	*process
	settings         *config.Service
	database         backend.Binding
	program, config  string
	address, metrics string
	spill            string
	core             int
	more             []string // arguments
	admin            string   // a token
}

// serviceSettings returns a service's settings, with schemas of its own.
func serviceSettings(b *testing.B, product, namespace string, database backend.Binding) *config.Service {
	b.Helper()
	schema := "bench_" + strings.ToLower(rand.Text())
	admin := connect(b, database)
	defer admin.Close(context.Background()) //nolint:errcheck // the benchmark's own
	for _, name := range []string{schema, schema + "_identity"} {
		if _, err := admin.Exec(b.Context(), "CREATE SCHEMA "+name); err != nil {
			b.Fatal(err)
		}
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	secret := base64.StdEncoding.EncodeToString(key)
	return &config.Service{
		Product: product, Platform: "bench", Namespace: namespace, Generation: 1,
		Database: config.Database{Binding: database.Data(), Schema: schema},
		Identity: config.Database{Binding: database.Data(), Schema: schema + "_identity"},
		Auth: config.Auth{
			Issuer: "https://bench.example.com", Keys: []config.Key{{ID: "k1", Algorithm: "HS256", Secret: secret}}, OpenRegistration: true,
			Administrator: &config.Administrator{Email: "root@example.com", Password: rand.Text()},
		},
		RateLimit: config.RateLimit{RequestsPerMinute: -1},
		Audit:     config.Audit{Key: secret},
		Pprof:     true,
	}
}

// connect logs in as a superuser to a database with durable writes.
func connect(b *testing.B, database backend.Binding) *pgx.Conn {
	b.Helper()
	c, err := pgx.Connect(b.Context(), (&url.URL{
		Scheme: "postgres", User: url.UserPassword(database.Username, database.Password), Host: database.Address(), Path: database.Database, RawQuery: "sslmode=disable",
	}).String())
	if err != nil {
		b.Fatal(err)
	}
	var fsync, commit string
	if err := c.QueryRow(b.Context(), `SELECT current_setting('fsync'), current_setting('synchronous_commit')`).Scan(&fsync, &commit); err != nil {
		b.Fatal(err)
	}
	if fsync != "on" || commit != "on" {
		b.Fatalf("writes are not durable: fsync %s, synchronous_commit %s", fsync, commit)
	}
	return c
}

// startService returns a running service whose administrator has logged in.
func startService(b *testing.B, core int, pkg string, database backend.Binding, settings *config.Service, more ...string) *ourService {
	b.Helper()
	s := &ourService{
		settings: settings, database: database, program: build(b, pkg), config: b.TempDir(), spill: b.TempDir(), core: core,
		address: servers.FreeAddress(b), metrics: servers.FreeAddress(b), more: more,
	}
	writeJSON(b, filepath.Join(s.config, config.FileName), settings)
	s.run(b)
	s.answers(b, s.url(config.ReadyPath))
	s.admin = s.login(b, settings.Auth.Administrator.Email, settings.Auth.Administrator.Password)
	return s
}

// run starts the program, also again after a kill.
func (s *ourService) run(b *testing.B) {
	b.Helper()
	args := append([]string{"-config", s.config, "-listen", s.address, "-metrics-listen", s.metrics, "-spill", s.spill}, s.more...)
	s.process = launch(b, s.core, s.config, s.program, args...)
}

func (s *ourService) url(path string) string { return "http://" + s.address + path }

func writeJSON(b *testing.B, file string, value any) {
	b.Helper()
	data, err := json.Marshal(value)
	if err == nil {
		err = os.WriteFile(file, data, 0o600)
	}
	if err != nil {
		b.Fatal(err)
	}
}

func bearer(token string) map[string]string {
	return map[string]string{"Authorization": "Bearer " + token, "Content-Type": "application/json"}
}

func (s *ourService) login(b *testing.B, email, password string) string {
	b.Helper()
	answer, err := http.PostForm(s.url("/api/v1/token"), url.Values{"grant_type": {"password"}, "username": {email}, "password": {password}})
	if err != nil {
		b.Fatal(err)
	}
	defer answer.Body.Close()
	var token struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&token); err != nil || token.AccessToken == "" {
		b.Fatalf("login: %s, %v", answer.Status, err)
	}
	return token.AccessToken
}

// user registers a user with a role, and returns a token.
func (s *ourService) user(b *testing.B, role string) string {
	b.Helper()
	email, password := role+"@example.com", rand.Text()
	var user struct {
		Data struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	call(b, nil, http.MethodPost, s.url("/api/v1/register"), map[string]string{"email": email, "password": password}, &user)
	call(b, bearer(s.admin), http.MethodPut, s.url("/api/v1/users/"+user.Data.ID+"/grants"), map[string]any{
		"grants": []map[string]string{{"product": s.settings.Product, "namespace": s.settings.Namespace, "role": role}},
	}, nil)
	return s.login(b, email, password)
}
