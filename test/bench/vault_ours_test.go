// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/itechsmart/operator/internal/backend"
	wire "github.com/itechsmart/operator/internal/backend/vault"
	"github.com/itechsmart/operator/test/load"
	"github.com/itechsmart/operator/workloads/config"
)

const (
	valueBytes = 256
	// secretCount secrets are there when a server is measured; they are made by filling connections.
	secretCount, filling = 10_000, 50
	benchNamespace       = "bench"
)

// ourVault is workloads/vault as a program of its own on a PostgreSQL.
type ourVault struct {
	*process
	database                backend.Binding
	program, config         string
	address, metrics, spill string
	core                    int
	// Tokens, of one login each.
	editor, viewer string
}

func vaultSettings(b *testing.B, database backend.Binding) *config.Service {
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
		Product: "vault", Platform: "bench", Namespace: benchNamespace, Generation: 1,
		Database: config.Database{Binding: database.Data(), Schema: schema},
		Identity: config.Database{Binding: database.Data(), Schema: schema + "_identity"},
		Auth: config.Auth{
			Issuer: "https://bench.example.com", Keys: []config.Key{{ID: "k1", Algorithm: "HS256", Secret: secret}}, OpenRegistration: true,
			Administrator: &config.Administrator{Email: "root@example.com", Password: rand.Text()},
		},
		RateLimit: config.RateLimit{RequestsPerMinute: -1},
		Audit:     config.Audit{Key: secret},
		Pprof:     true,
		Vault:     &config.Vault{Passphrase: rand.Text()},
	}
}

// connect logs in to a database that keeps what it confirmed, as a superuser.
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

// startOurs gives a running vault with an editor and a viewer.
func startOurs(b *testing.B, core int, database backend.Binding) *ourVault {
	b.Helper()
	settings := vaultSettings(b, database)
	v := &ourVault{
		program: build(b, "./workloads/vault"), config: b.TempDir(), spill: b.TempDir(), core: core, database: database,
		address: freeAddress(b), metrics: freeAddress(b),
	}
	data, err := json.Marshal(settings)
	if err == nil {
		err = os.WriteFile(filepath.Join(v.config, config.FileName), data, 0o600)
	}
	if err != nil {
		b.Fatal(err)
	}
	v.run(b)
	v.answers(b, v.url(config.ReadyPath))
	admin := v.login(b, settings.Auth.Administrator.Email, settings.Auth.Administrator.Password)
	v.editor, v.viewer = v.user(b, admin, "editor"), v.user(b, admin, "viewer")
	return v
}

func (v *ourVault) run(b *testing.B) {
	b.Helper()
	v.process = launch(b, v.core, v.config, v.program, "-config", v.config, "-listen", v.address, "-metrics-listen", v.metrics, "-spill", v.spill)
}

func (v *ourVault) url(path string) string { return "http://" + v.address + path }

func bearer(token string) map[string]string {
	return map[string]string{"Authorization": "Bearer " + token, "Content-Type": "application/json"}
}

func (v *ourVault) login(b *testing.B, email, password string) string {
	b.Helper()
	answer, err := http.PostForm(v.url("/api/v1/token"), url.Values{"grant_type": {"password"}, "username": {email}, "password": {password}})
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

// user registers one with a role, and gives its token.
func (v *ourVault) user(b *testing.B, admin, role string) string {
	b.Helper()
	email, password := role+"@example.com", rand.Text()
	var user struct {
		Data struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	call(b, nil, http.MethodPost, v.url("/api/v1/register"), map[string]string{"email": email, "password": password}, &user)
	call(b, bearer(admin), http.MethodPut, v.url("/api/v1/users/"+user.Data.ID+"/grants"), map[string]any{
		"grants": []map[string]string{{"product": "vault", "namespace": benchNamespace, "role": role}},
	}, nil)
	return v.login(b, email, password)
}

func secretName(i int) string { return fmt.Sprintf("s/%05d", i) }

func secretURL(name, more string) string { return "/api/v1/secrets/" + url.PathEscape(name) + more }

// ourWrite is the body that writes a value of 256 bytes.
func ourWrite(b *testing.B, name string) []byte {
	b.Helper()
	body := struct {
		Path string `json:"path,omitempty"`
		wire.Write
	}{name, wire.Write{Type: wire.TypeText, Value: wire.Value{wire.FieldText: []byte(strings.Repeat("x", valueBytes))}}}
	data, err := json.Marshal(body)
	if err != nil {
		b.Fatal(err)
	}
	return data
}

// fill makes the secrets.
func (v *ourVault) fill(b *testing.B) {
	b.Helper()
	var requests []load.Request
	for i := range secretCount {
		requests = append(requests, load.Request{
			Method: http.MethodPost, Path: "/api/v1/secrets", Header: bearer(v.editor), Body: ourWrite(b, secretName(i)), Status: http.StatusCreated,
		})
	}
	sound(b, send(b, anywhere, load.Spec{
		Address: v.address, Connections: filling, Each: secretCount / filling, Classes: []load.Class{{Name: "create", Weight: 1, Requests: requests}},
	}))
	c := connect(b, v.database)
	defer c.Close(context.Background()) //nolint:errcheck // the benchmark's own
	if _, err := c.Exec(b.Context(), "ANALYZE"); err != nil {
		b.Fatal(err)
	}
}

// reads and writes are of all the secrets.
func (v *ourVault) reads() []load.Request {
	var out []load.Request
	for i := range secretCount {
		out = append(out, load.Request{Method: http.MethodGet, Path: secretURL(secretName(i), "/value"), Header: bearer(v.editor), Status: http.StatusOK})
	}
	return out
}

func (v *ourVault) writes(b *testing.B) []load.Request {
	b.Helper()
	var out []load.Request
	body := ourWrite(b, "")
	for i := range secretCount {
		out = append(out, load.Request{Method: http.MethodPut, Path: secretURL(secretName(i), ""), Header: bearer(v.editor), Body: body, Status: http.StatusOK})
	}
	return out
}
