// SPDX-License-Identifier: Apache-2.0

package service

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/internal/product/producttest"
	wire "github.com/itechsmart/operator/workloads/vault/client"
)

// TestMassAssignment checks that users cannot assign themselves a role, a namespace or an id, neither at registration nor
// later.
func TestMassAssignment(t *testing.T) {
	r := start(t, settingsOn(t, servers.Postgres(t)), nil)
	const password = "Engine-1843"
	token := r.Register("eve@example.com", "")
	for field, content := range map[string]string{
		"role": `"admin"`, "roles": `["admin"]`, "admin": `true`, "grants": `[{"product":"*","namespace":"*","role":"admin"}]`, "Grants": `[]`, "namespace": `"shop"`,
		"id": `"00000000-0000-0000-0000-000000000001"`, "userID": `"x"`, "createdAt": `"2020-01-01T00:00:00Z"`, "__proto__": `{"role":"admin"}`,
	} {
		name := field
		if strings.HasPrefix(field, "_") {
			name = "*" // not a name of ours: it is not repeated
		}
		for _, c := range [][3]string{
			{"POST", "/register", `{"email":"mallory@example.com","password":"` + password + `","` + field + `":` + content + `}`},
			{"PUT", "/me", `{"name":"Eve","` + field + `":` + content + `}`},
		} {
			a := r.Call(token, c[0], c[1], c[2])
			if a.Status != http.StatusUnprocessableEntity {
				t.Errorf("%s with %s: %d %s", c[1], field, a.Status, a.Body)
			} else if refusal := a.Refusal(t); len(refusal.Details) != 1 || !strings.HasPrefix(refusal.Details[0].Field, "body.") {
				t.Errorf("%s with %s names %+v, want %s", c[1], field, refusal.Details, name)
			}
		}
	}
	if a := r.Call(token, "PUT", "/users/00000000-0000-0000-0000-000000000001/grants", `{"grants":[]}`); a.Status != http.StatusForbidden {
		t.Errorf("grants by a user without a role: %d %s", a.Status, a.Body)
	}
	if a := r.Call(token, "GET", "/secrets/any/value", nil); a.Status != http.StatusForbidden {
		t.Errorf("eve reads: %d %s", a.Status, a.Body)
	}
	me := must[struct {
		Name   string `json:"name"`
		Grants []any  `json:"grants"`
	}](r, http.StatusOK, token, "GET", "/me", nil)
	if me.Name != "" || len(me.Grants) != 0 {
		t.Errorf("eve became %+v", me)
	}
	response, err := http.PostForm(r.URL+producttest.Base+"/token", url.Values{"grant_type": {"password"}, "username": {"mallory@example.com"}, "password": {password}})
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusBadRequest {
		t.Errorf("mallory was created: %d", response.StatusCode)
	}
}

// TestOtherTenant: two Vaults of one Platform share their users. The data of one namespace is invisible to the other,
// under any id, cursor or key of its own.
func TestOtherTenant(t *testing.T) {
	ours := settingsOn(t, servers.Postgres(t))
	theirs := settingsOn(t, servers.Postgres(t))
	theirs.Identity, theirs.Auth, theirs.Namespace = ours.Identity, ours.Auth, "bank"
	shop, bank := start(t, ours, nil), start(t, theirs, nil)
	admin := shop.Register("admin@shop.example.com", "admin")
	must[wire.Secret](bank, http.StatusCreated, bank.Admin, "POST", "/secrets", write("db/password", canary))
	for _, path := range []string{"a", "b"} {
		must[wire.Secret](shop, http.StatusCreated, admin, "POST", "/secrets", write(path, path))
	}
	list := must[wire.Page[wire.Secret]](shop, http.StatusOK, admin, "GET", "/secrets?limit=1", nil)

	// The administrator of one namespace has no role in the other.
	for _, c := range []struct {
		method, path string
		body         any
	}{
		{"GET", "/secrets/db%2Fpassword", nil}, {"GET", "/secrets/db%2Fpassword/value", nil}, {"GET", "/secrets/db%2Fpassword/versions", nil}, {"GET", "/secrets/db%2Fpassword/diff", nil},
		{"GET", "/secrets/db%2Fpassword/consumers", nil}, {"PUT", "/secrets/db%2Fpassword", value("x")}, {"POST", "/secrets", write("mine", "x")}, {"DELETE", "/secrets/db%2Fpassword?destroy=true", nil},
		{"POST", "/secrets/db%2Fpassword/rollback", `{"version":1}`}, {"POST", "/secrets/db%2Fpassword/rotate", nil}, {"POST", "/secrets/db%2Fpassword/versions/1/destroy", nil},
		{"GET", "/audit", nil}, {"GET", "/audit/export", nil}, {"GET", "/policies", nil}, {"POST", "/seal", nil}, {"POST", "/rewrap", nil}, {"POST", "/keys/rotate", nil},
	} {
		if a := bank.Call(admin, c.method, c.path, c.body); a.Status != http.StatusForbidden {
			t.Errorf("%s %s: %d %s", c.method, c.path, a.Status, a.Body)
		}
	}
	if page := bank.Call(admin, "GET", "/secrets", nil); page.Status == http.StatusOK && strings.Contains(string(page.Body), "db/password") {
		t.Errorf("she sees %s", page.Body)
	}
	for _, path := range []string{"db%2Fpassword", "bank%2Fdb%2Fpassword"} {
		if a := shop.Call(admin, "GET", "/secrets/"+path+"/value", nil); a.Status != http.StatusNotFound {
			t.Errorf("%s in her own: %d %s", path, a.Status, a.Body)
		}
	}
	// An administrator of both cannot use a cursor of one in the other.
	if a := bank.Call(bank.Admin, "GET", "/secrets?limit=1&cursor="+url.QueryEscape(list.Next), nil); list.Next == "" || a.Status != http.StatusBadRequest {
		t.Errorf("a cursor of the other: %d %s", a.Status, a.Body)
	}
	const key = "Idempotency-Key"
	must[wire.Secret](shop, http.StatusCreated, shop.Admin, "POST", "/secrets", write("twice", "shop's"), key, "k")
	must[wire.Secret](bank, http.StatusCreated, bank.Admin, "POST", "/secrets", write("twice", "bank's"), key, "k")
	// Users cannot grant what they do not have.
	eve := must[struct {
		ID string `json:"id"`
	}](shop, http.StatusCreated, "", "POST", "/register", map[string]string{"email": "eve@example.com", "password": "Engine-1843"})
	grant := func(namespace string) int {
		return shop.Call(admin, "PUT", "/users/"+eve.ID+"/grants", map[string]any{"grants": []map[string]string{{"product": productName, "namespace": namespace, "role": "viewer"}}}).Status
	}
	for namespace, want := range map[string]int{"bank": http.StatusForbidden, "*": http.StatusForbidden, "shop": http.StatusOK} {
		if status := grant(namespace); status != want {
			t.Errorf("a grant on %s: %d, want %d", namespace, status, want)
		}
	}
}
