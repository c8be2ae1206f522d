// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/test/load"
	wire "github.com/itechsmart/operator/workloads/vault/client"
)

const (
	valueBytes = 256
	// secretCount secrets exist when a server is measured; they are created over filling connections.
	secretCount, filling = 10_000, 50
	benchNamespace       = "bench"
)

// ourVault is workloads/vault with a PostgreSQL.
type ourVault struct {
	*ourService
	// Tokens, of one login each.
	editor, viewer string
}

// startOurs returns a running vault with an editor and a viewer.
func startOurs(b *testing.B, core int, database backend.Binding) *ourVault {
	b.Helper()
	settings := serviceSettings(b, "vault", benchNamespace, database)
	settings.Settings = json.RawMessage(fmt.Sprintf(`{"passphrase":%q}`, rand.Text()))
	v := &ourVault{ourService: startService(b, core, "./workloads/vault", database, settings)}
	v.editor, v.viewer = v.user(b, "editor"), v.user(b, "viewer")
	return v
}

func secretName(i int) string { return fmt.Sprintf("s/%05d", i) }

func secretURL(name, more string) string { return "/api/v1/secrets/" + url.PathEscape(name) + more }

// ourWrite returns the body that writes a value of 256 bytes.
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

// fill creates the secrets.
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

// reads and writes return requests for all the secrets.
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
