// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/audit"
	"github.com/itechsmart/operator/workloads/internal/product"
	"github.com/itechsmart/operator/workloads/internal/product/producttest"
	wire "github.com/itechsmart/operator/workloads/vault/client"
	vaultconfig "github.com/itechsmart/operator/workloads/vault/config"
	"github.com/itechsmart/operator/workloads/vault/internal/service"
	"github.com/itechsmart/operator/workloads/vault/vaultctl/internal/client"
)

func TestMain(m *testing.M) { servers.Main(m) }

const (
	user, password = "root@example.com", "Correct-horse-9"
	canary         = "canary-4711-never-to-be-seen"
)

// vault runs a service until the end of the test.
func vault(t *testing.T) (server string) {
	t.Helper()
	b, schema := servers.Schema(t)
	identity := servers.SchemaOn(t, b)
	key := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{9}, 32))
	listening, ended := make(chan string, 1), make(chan error, 1)
	p := product.Process{
		Product: service.Product(),
		Config: &config.Service{
			Product: "vault", Platform: "main", Namespace: "shop",
			Database:  config.Database{Binding: b.Data(), Schema: schema, MinConnections: 1, MaxConnections: 6},
			Identity:  config.Database{Binding: b.Data(), Schema: identity, MinConnections: 1, MaxConnections: 4},
			Auth:      config.Auth{Issuer: "https://shop.example.com", Keys: []config.Key{{ID: "k", Algorithm: "HS256", Secret: key}}, Administrator: &config.Administrator{Email: user, Password: password}},
			RateLimit: config.RateLimit{RequestsPerMinute: -1},
			Settings:  producttest.Own(vaultconfig.Settings{Passphrase: "of the test"}),
		},
		Addr: "127.0.0.1:0", SpillDir: t.TempDir(), HashCost: 4, DrainDelay: -1, Log: slog.New(slog.DiscardHandler),
		Listening: func(address, _ string) { listening <- address },
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the service ended: %v", err)
		}
	})
	server = "http://" + <-listening
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		response, err := http.Get(server + "/readyz")
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return server
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("the service is not ready within a minute")
		}
	}
}

// run runs a command line as a shell would.
func run(t *testing.T, stdin string, args ...string) (out string, err error) {
	t.Helper()
	c := Command("v1.2.3")
	var stdout, stderr bytes.Buffer
	c.SetIn(strings.NewReader(stdin))
	c.SetOut(&stdout)
	c.SetErr(&stderr)
	c.SetArgs(args)
	err = c.ExecuteContext(t.Context())
	for _, text := range []string{stderr.String(), fmt.Sprint(err)} {
		if strings.Contains(text, canary) || strings.Contains(text, password) {
			t.Errorf("%v says a secret: %s", args, text)
		}
	}
	return stdout.String(), err
}

func must(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	out, err := run(t, stdin, args...)
	if err != nil {
		t.Fatalf("vaultctl %s: %v", strings.Join(args, " "), err)
	}
	return out
}

func TestAgainstVault(t *testing.T) {
	server, dir := vault(t), t.TempDir()
	session := filepath.Join(dir, "session.json")
	t.Setenv(sessionEnv, session)
	t.Setenv(serverEnv, "")
	t.Setenv(tokenEnv, "")

	if _, err := run(t, "", "list", "--server", server); err == nil || !strings.Contains(err.Error(), "vaultctl login") {
		t.Errorf("a list without a login: %v", err)
	}
	if _, err := run(t, "wrong\n", "login", "--server", server, "-u", user); err == nil {
		t.Error("a wrong password was accepted")
	}
	must(t, password+"\n", "login", "--server", server, "-u", user)
	if info, err := os.Stat(session); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the session's file: %v, %v", info, err)
	}

	if out := must(t, canary+"\n", "put", "db/password"); out != "db/password version 1\n" {
		t.Errorf("put: %q", out)
	}
	if out := must(t, "", "get", "db/password"); out != canary {
		t.Errorf("get: %q", out)
	}
	must(t, canary+" two", "put", "db/password", "--cas", "1")
	if _, err := run(t, "three", "put", "db/password", "--cas", "1"); err == nil || !strings.Contains(err.Error(), "412") {
		t.Errorf("a stale put: %v", err)
	}
	if _, err := run(t, "three", "put", "db/password", "--cas", "0"); err == nil || !strings.Contains(err.Error(), "409") {
		t.Errorf("a second create: %v", err)
	}
	if out := must(t, "", "diff", "db/password"); !strings.Contains(out, "changed") || strings.Contains(out, canary) {
		t.Errorf("diff: %q", out)
	}
	must(t, "", "rollback", "db/password", "--version", "1")
	if out := must(t, "", "get", "db/password", "--version", "3"); out != canary {
		t.Errorf("version 3: %q", out)
	}
	if out := must(t, "", "versions", "db/password"); strings.Count(out, "live") != 3 {
		t.Errorf("versions: %q", out)
	}
	var list []wire.Secret
	if err := json.Unmarshal([]byte(must(t, "", "list", "db", "-o", "json")), &list); err != nil || len(list) != 1 || list[0].Version != 3 {
		t.Errorf("list: %+v, %v", list, err)
	}
	if _, err := run(t, "", "rotate", "db/password"); err == nil {
		t.Error("a written secret was rotated")
	}
	for _, path := range []string{"../etc", "a//b", "A"} {
		if _, err := run(t, "", "get", path); err == nil {
			t.Errorf("path %q was accepted", path)
		}
	}
	if out := must(t, "", "seal-status"); !strings.Contains(out, "unsealed") {
		t.Errorf("seal-status: %q", out)
	}
	files(t, dir)
	sealAndOpen(t, server, dir)
	verifyOffline(t, dir)
	must(t, "", "delete", "db/password", "--destroy")
	must(t, "", "logout")
	if _, err := os.Stat(session); !os.IsNotExist(err) {
		t.Errorf("the session still exists: %v", err)
	}
}

// files streams a file to the Vault and back that is too large for a value.
func files(t *testing.T, dir string) {
	t.Helper()
	in, out := filepath.Join(dir, "in.bin"), filepath.Join(dir, "out.bin")
	data := bytes.Repeat([]byte(canary), 3<<20/len(canary))
	if err := os.WriteFile(in, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if text := must(t, "", "put", "backup", "-t", "File", "-f", in, "--cas", "0", "--metadata", "team=a", "--expires", "2099-01-02T03:04:05Z"); text != "backup version 1\n" {
		t.Errorf("put: %q", text)
	}
	for want, cas := range map[string]string{"409": "0", "412": "7"} {
		if _, err := run(t, "", "put", "backup", "-t", "File", "-f", in, "--cas", cas); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("--cas %s: %v", cas, err)
		}
	}
	must(t, "", "get", "backup", "--to-file", out)
	got, err := os.ReadFile(out)
	info, statErr := os.Stat(out)
	if err != nil || statErr != nil || !bytes.Equal(got, data) || info.Mode().Perm() != 0o600 {
		t.Errorf("%d bytes were read, %v, %v", len(got), err, info)
	}
	if got := must(t, "", "get", "backup"); got != string(data) {
		t.Errorf("%d bytes were printed", len(got))
	}
	if _, err := run(t, "", "get", "backup", "-o", "json"); err == nil || !strings.Contains(err.Error(), "content") {
		t.Errorf("as JSON: %v", err)
	}
	if text := must(t, "small\n", "put", "backup", "-t", "File"); text != "backup version 2\n" {
		t.Errorf("put: %q", text)
	}
	if got := must(t, "", "get", "backup"); got != "small\n" {
		t.Errorf("a small file was printed as %q", got)
	}
	if _, err := run(t, "", "put", "backup", "-t", "File", "-f", filepath.Join(dir, "none")); err == nil {
		t.Error("a missing file was stored")
	}
}

// sealAndOpen seals without a server and checks that the Vault opens it, only under its own name.
func sealAndOpen(t *testing.T, server, dir string) {
	t.Helper()
	key := filepath.Join(dir, "sealing-key.json")
	if err := os.WriteFile(key, []byte(must(t, "", "sealing-key")), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv(sessionEnv, filepath.Join(dir, "none.json")) // offline
	text := must(t, canary, "seal", "api-key", "-n", "shop", "-t", "APIKey", "--key", key, "--path", "api/key", "--destination", "api")
	if _, err := run(t, "x", "seal", "api-key", "-n", "shop"); err == nil {
		t.Error("seal without a key and a server")
	}
	t.Setenv(sessionEnv, filepath.Join(dir, "session.json"))
	if strings.Contains(text, canary) || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(canary))) {
		t.Fatal("the sealed resource contains the value")
	}
	var m manifest
	if err := yaml.UnmarshalStrict([]byte(text), &m); err != nil || m.Kind != "Secret" || m.Metadata.Name != "api-key" || m.Spec.Path != "api/key" || m.Spec.Destination.Name != "api" {
		t.Fatalf("%v: %s", err, text)
	}
	saved, err := client.LoadSession(filepath.Join(dir, "session.json"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(server, func(ctx context.Context) (string, error) { return saved.Token(ctx, server) })
	if err != nil {
		t.Fatal(err)
	}
	apply := wire.Apply{Type: m.Spec.Type, Sealed: m.Spec.Source.Sealed, Name: "another", SourceHash: "h"}
	if err := c.Call(t.Context(), http.MethodPost, secretPath("api/key", "apply"), nil, apply, nil); err == nil || !strings.Contains(err.Error(), "body.sealed") {
		t.Errorf("under another name: %v", err)
	}
	apply.Name = m.Metadata.Name
	if err := c.Call(t.Context(), http.MethodPost, secretPath("api/key", "apply"), nil, apply, nil); err != nil {
		t.Fatal(err)
	}
	if out := must(t, "", "get", "api/key"); out != canary {
		t.Errorf("the sealed value is read as %q", out)
	}
}

func verifyOffline(t *testing.T, dir string) {
	t.Helper()
	key, file := filepath.Join(dir, "audit-key.json"), filepath.Join(dir, "audit.jsonl")
	if err := os.WriteFile(key, []byte(must(t, "", "audit", "key")), 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, "", "audit", "export", "-f", file)
	var report audit.Report
	if err := json.Unmarshal([]byte(must(t, "", "audit", "verify", file, "--key", key, "-o", "json")), &report); err != nil || report.Events < 8 {
		t.Errorf("report %+v, %v", report, err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(data, []byte("\n"))
	lines[4] = bytes.Replace(lines[4], []byte(`"outcome":"`), []byte(`"outcome":"not-`), 1)
	if err := os.WriteFile(file, bytes.Join(lines, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := run(t, "", "audit", "verify", file, "--key", key); err == nil || !strings.Contains(err.Error(), "line 5") {
		t.Errorf("a changed line: %v", err)
	}
	if out := must(t, "", "audit", "list", "--action", "secret.*"); !strings.Contains(out, "secret/db/password@1") {
		t.Errorf("audit list: %q", out)
	}
}

// A value is never an argument, and each command has help.
func TestCommands(t *testing.T) {
	t.Setenv(sessionEnv, filepath.Join(t.TempDir(), "session.json"))
	for _, args := range [][]string{
		{"put", "a", "value"}, {"seal", "a", "value", "-n", "shop"}, {"unseal", "share"}, {"login", "password"},
		{"put", "a", "--type", "Password"}, {"put", "a", "--type", "Certificate"}, {"put", "a", "-f", "nofield=x"},
		{"seal", "Upper", "-n", "shop"}, {"seal", "a"}, {"list", "--server", "ftp://x"}, {"list", "--server", "https://user:pw@x"},
	} {
		if _, err := run(t, "x", args...); err == nil {
			t.Errorf("%v is taken", args)
		}
	}
	for _, c := range Command("v1.2.3").Commands() {
		if out := must(t, "", c.Name(), "--help"); !strings.Contains(out, "Usage:") || c.Short == "" {
			t.Errorf("%s: %q", c.Name(), out)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if out := must(t, "", "completion", shell); len(out) < 500 {
			t.Errorf("completion %s: %q", shell, out)
		}
	}
	if out := must(t, "", "--version"); out != "vaultctl v1.2.3\n" {
		t.Errorf("version: %q", out)
	}
}
