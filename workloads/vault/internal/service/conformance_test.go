// SPDX-License-Identifier: Apache-2.0

package service

import (
	"testing"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	vault "github.com/itechsmart/operator/workloads/vault/client"
	"github.com/itechsmart/operator/workloads/vault/client/clienttest"
	"github.com/itechsmart/operator/workloads/vault/internal/seal"
)

// TestConformance runs the suite of the client and its fake against the service itself.
func TestConformance(t *testing.T) {
	r := start(t, settingsOn(t, servers.Postgres(t)), nil)
	clienttest.Run(t, func(t testing.TB) clienttest.UnderTest {
		client, err := vault.New(vault.Options{Endpoint: r.URL, Token: vault.StaticToken(r.Admin)})
		if err != nil {
			t.Fatal(err)
		}
		return clienttest.UnderTest{Client: client, Namespace: namespace, Seal: func(t testing.TB, namespace, name string, value vault.Value) string {
			t.Helper()
			key, err := client.SealingKey(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			sealed, err := seal.Seal(key.PublicKey, seal.Binding{Namespace: namespace, Name: name}, value)
			if err != nil {
				t.Fatal(err)
			}
			return sealed
		}}
	})
}
