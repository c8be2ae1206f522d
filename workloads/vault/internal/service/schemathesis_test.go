// SPDX-License-Identifier: Apache-2.0

package service

import (
	"net/http"
	"path/filepath"
	"testing"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/internal/product/producttest"
	wire "github.com/itechsmart/operator/workloads/vault/client"
)

// TestSchemathesis tests every operation of the OpenAPI document.
func TestSchemathesis(t *testing.T) {
	program, settings := producttest.Schemathesis(t), filepath.Join("testdata", "schemathesis.toml")
	server, namespace := apiServer(t)
	service := settingsOn(t, servers.Postgres(t))
	service.Namespace = namespace
	r := start(t, service, server.Config)
	must[wire.Secret](r, http.StatusCreated, r.Admin, "POST", "/secrets", write("db/password", "one"))
	must[wire.Secret](r, http.StatusOK, r.Admin, "PUT", "/secrets/db%2Fpassword", value("two"))
	// Sealing comes last: nothing can be read then.
	r.Conform(program, settings, "--exclude-operation-id", "seal")
	r.Conform(program, settings, "--include-operation-id", "seal")
}
