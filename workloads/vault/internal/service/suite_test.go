// SPDX-License-Identifier: Apache-2.0

package service

import (
	"crypto/rand"
	"os"
	"strings"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/product/producttest"
	vaultconfig "github.com/itechsmart/operator/workloads/vault/config"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(asService); dir != "" {
		os.Exit(serve(dir))
	}
	servers.Main(m)
}

const namespace = producttest.Namespace

// running is a whole service with its database, reached over HTTP.
type running struct {
	*producttest.Running
	binding backend.Binding // of the database
}

// settingsOn creates two schemas on a server, and returns a configuration that uses them.
func settingsOn(t testing.TB, b backend.Binding) *config.Service {
	t.Helper()
	s := producttest.Settings(productName,
		config.Database{Binding: b.Data(), Schema: servers.SchemaOn(t, b), MinConnections: 2, MaxConnections: 8},
		config.Database{Binding: b.Data(), Schema: servers.SchemaOn(t, b), MinConnections: 1, MaxConnections: 4})
	s.Settings = producttest.Own(vaultconfig.Settings{Passphrase: "a passphrase of the test " + rand.Text()})
	return s
}

// vaultSettings returns Vault's own part of a configuration.
func vaultSettings(t testing.TB, s *config.Service) vaultconfig.Settings {
	t.Helper()
	settings, unknown, err := config.Settings[vaultconfig.Settings](s)
	if err != nil || len(unknown) > 0 {
		t.Fatal(unknown, err)
	}
	return settings
}

// start runs a service until the end of the test, or Stop.
func start(t testing.TB, settings *config.Service, kubernetes *rest.Config) *running {
	t.Helper()
	return &running{Running: producttest.Start(t, Product(), settings, kubernetes), binding: backend.ParseBinding(settings.Database.Binding)}
}

// metrics returns a scrape.
func (r *running) metrics() string {
	r.T.Helper()
	text := r.Metrics()
	if !strings.Contains(text, "itechsmart_vault_sealed") {
		r.T.Fatalf("metrics: %s", text)
	}
	return text
}

// must sends a request, checks the status, and returns the data.
func must[T any](r *running, status int, token, method, path string, body any, headers ...string) T {
	r.T.Helper()
	return producttest.Must[T](r.Running, status, token, method, path, body, headers...)
}
