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
	direct, _ := apiServer(t)
	r := start(t, settingsOn(t, servers.Postgres(t)), direct)
	must[wire.Secret](r, http.StatusCreated, r.Admin, "POST", "/secrets", write("db/password", "one"))
	must[wire.Secret](r, http.StatusOK, r.Admin, "PUT", "/secrets/db%2Fpassword", value("two"))
	// Sealing comes last: nothing can be read then.
	r.Conform(program, settings, "--exclude-operation-id", "seal")
	r.Conform(program, settings, "--include-operation-id", "seal")
}
