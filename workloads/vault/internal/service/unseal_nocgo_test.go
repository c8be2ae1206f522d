// SPDX-License-Identifier: Apache-2.0

//go:build !cgo

package service

import (
	"strings"
	"testing"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/internal/product/producttest"
	wire "github.com/itechsmart/operator/workloads/vault/client"
	vaultconfig "github.com/itechsmart/operator/workloads/vault/config"
	"github.com/itechsmart/operator/workloads/vault/internal/hsm"
)

// The static build starts, stays sealed, and its reason says how to build another one: CGO_ENABLED=0 go test.
func TestNoPKCS11(t *testing.T) {
	settings := settingsOn(t, servers.Postgres(t))
	settings.Settings = producttest.Own(vaultconfig.Settings{
		PKCS11: &vaultconfig.PKCS11{Module: "/usr/lib/hsm.so", TokenLabel: "vault", KeyLabel: "unseal", PIN: "1843"},
	})
	r := start(t, settings, nil)
	status := must[wire.SealStatus](r, 200, "", "GET", "/seal-status", nil)
	if !status.Sealed || status.Reason != hsm.ErrUnsupported.Error() || !strings.Contains(r.Logs.String(), "CGO_ENABLED=1") {
		t.Errorf("status %+v\n%s", status, r.Logs)
	}
}
