// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/test/kube"
	"github.com/itechsmart/operator/test/load"
)

// hashicorp is HashiCorp Vault on raft, with versions (kv 2), a file of audit events, and a token with a policy.
type hashicorp struct {
	*process
	address, token string
}

// buildHashiCorp returns the program's path, after building it if it is missing.
func buildHashiCorp(b *testing.B) string {
	b.Helper()
	program := filepath.Join(kube.Root(), ".local", "bin", "hashicorp-vault")
	if _, err := os.Stat(program); err == nil {
		return program
	}
	b.Logf("building HashiCorp Vault: this takes long")
	if out, err := exec.Command(filepath.Join(kube.Root(), "hack", "tools", "hashicorp-vault.sh")).CombinedOutput(); err != nil {
		b.Fatalf("build HashiCorp Vault: %v\n%s", err, out)
	}
	return program
}

func startHashiCorp(b *testing.B, core int) *hashicorp {
	b.Helper()
	dir := b.TempDir()
	h := &hashicorp{address: servers.FreeAddress(b)}
	cluster := servers.FreeAddress(b)
	settings, err := json.Marshal(map[string]any{
		"storage":       map[string]any{"raft": map[string]any{"path": dir, "node_id": "bench"}},
		"listener":      map[string]any{"tcp": map[string]any{"address": h.address, "cluster_address": cluster, "tls_disable": true}},
		"api_addr":      "http://" + h.address,
		"cluster_addr":  "https://" + cluster,
		"disable_mlock": true,
		"log_level":     "warn",
	})
	file := filepath.Join(dir, "server.json")
	if err == nil {
		err = os.WriteFile(file, settings, 0o600)
	}
	if err != nil {
		b.Fatal(err)
	}
	h.process = launch(b, core, dir, buildHashiCorp(b), "server", "-config", file)
	var keys struct {
		Keys  []string `json:"keys"`
		Token string   `json:"root_token"`
	}
	await(b, time.Minute, func() error {
		return try(nil, http.MethodPut, h.url("sys/init"), map[string]any{"secret_shares": 1, "secret_threshold": 1}, &keys)
	})
	call(b, nil, http.MethodPut, h.url("sys/unseal"), map[string]any{"key": keys.Keys[0]}, nil)
	h.answers(b, h.url("sys/health"))
	h.token = keys.Token
	h.configure(b, filepath.Join(dir, "audit.log"))
	return h
}

func (h *hashicorp) url(path string) string { return "http://" + h.address + "/v1/" + path }

func (h *hashicorp) header() map[string]string { return map[string]string{"X-Vault-Token": h.token} }

// configure enables the audit file, which is written but not synced before a response, like our spill; and creates a
// token that may do what the client does.
func (h *hashicorp) configure(b *testing.B, audit string) {
	b.Helper()
	root := h.header()
	call(b, root, http.MethodPut, h.url("sys/audit/file"), map[string]any{"type": "file", "options": map[string]string{"file_path": audit}}, nil)
	call(b, root, http.MethodPost, h.url("sys/mounts/secret"), map[string]any{"type": "kv", "options": map[string]string{"version": "2"}}, nil)
	call(b, root, http.MethodPut, h.url("sys/policies/acl/bench"), map[string]any{
		"policy": `path "secret/*" { capabilities = ["create", "read", "update", "list"] }`,
	}, nil)
	var login struct {
		Auth struct {
			Token string `json:"client_token"`
		} `json:"auth"`
	}
	call(b, root, http.MethodPost, h.url("auth/token/create"), map[string]any{
		"policies": []string{"bench"}, "no_default_policy": true, "ttl": "12h", // the default policy has templates, which cost a third of a read
	}, &login)
	h.token = login.Auth.Token
	await(b, time.Minute, func() error { // a new mount prepares itself
		return try(h.header(), http.MethodPost, h.url("secret/data/first"), map[string]any{"data": map[string]string{"text": "x"}}, nil)
	})
}

func (h *hashicorp) requests(b *testing.B, method string) []load.Request {
	b.Helper()
	var body []byte
	if method == http.MethodPost {
		var err error
		if body, err = json.Marshal(map[string]any{"data": map[string]string{"text": strings.Repeat("x", valueBytes)}}); err != nil {
			b.Fatal(err)
		}
	}
	var out []load.Request
	for i := range secretCount {
		out = append(out, load.Request{Method: method, Path: "/v1/secret/data/" + secretName(i), Header: h.header(), Body: body, Status: http.StatusOK})
	}
	return out
}

func (h *hashicorp) fill(b *testing.B) {
	b.Helper()
	sound(b, send(b, anywhere, load.Spec{
		Address: h.address, Connections: filling, Each: secretCount / filling, Classes: []load.Class{{Name: "create", Weight: 1, Requests: h.requests(b, http.MethodPost)}},
	}))
}
