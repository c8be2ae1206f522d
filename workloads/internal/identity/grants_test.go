// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/itechsmart/operator/workloads/internal/audit"
	"github.com/itechsmart/operator/workloads/internal/auth"
)

func (r *replica) grant(token, id string, grants ...auth.Grant) answer {
	r.t.Helper()
	var parts []string
	for _, g := range grants {
		parts = append(parts, fmt.Sprintf(`{"product":%q,"namespace":%q,"role":%q}`, g.Product, g.Namespace, g.Role))
	}
	return r.call(http.MethodPut, "/users/"+id+"/grants", token, `{"grants":[`+strings.Join(parts, ",")+`]}`)
}

func TestGrants(t *testing.T) {
	r := one(t)
	u, ada := r.ada()
	id, admin := u.ID.String(), r.admin()
	editor := auth.Grant{Product: "vault", Namespace: "team-a", Role: auth.RoleEditor}

	r.wants("anonymous", r.grant("", id, editor), 401)
	r.wants("herself", r.grant(ada.AccessToken, id, root), 403)
	r.wants("herself, less", r.grant(ada.AccessToken, id, editor), 403)
	r.wants("anonymous list", r.call(http.MethodGet, "/users", "", ""), 401)
	r.wants("a user lists", r.call(http.MethodGet, "/users", ada.AccessToken, ""), 403)
	r.wants("the administrator lists", r.call(http.MethodGet, "/users", admin.AccessToken, ""), 200, adaEmail, adminEmail)

	r.wants("the administrator", r.grant(admin.AccessToken, id, editor, editor), 200, `"role":"editor"`)
	// Her existing token has the grant at once, on this replica.
	p, err := r.Authenticate(t.Context(), ada.AccessToken)
	if err != nil || p.RoleOn("vault", "team-a") != auth.RoleEditor || p.RoleOn("vault", "team-b") != auth.RoleNone || len(p.Grants) != 1 {
		t.Errorf("%+v %v", p, err)
	}
	fresh := r.tokens(r.refreshWith(ada.RefreshToken))
	if c, err := r.ring.verify(fresh.AccessToken, r.now()); err != nil || len(c.Grants) != 1 || c.Grants[0] != editor {
		t.Errorf("a new token carries %+v %v", c, err)
	}
	r.wants("taken away", r.grant(admin.AccessToken, id), 200, `"grants":[]`)
	if p, err := r.Authenticate(t.Context(), fresh.AccessToken); err != nil || p.RoleOn("vault", "team-a") != auth.RoleNone {
		t.Errorf("still %+v %v", p, err)
	}
	if got := r.events.count("user.grant", audit.Allowed, "user/"+id); got != 2 {
		t.Errorf("%d events", got)
	}
}

// TestAnotherTenant checks that an administrator of one namespace can neither grant, revoke nor see anything of another.
func TestAnotherTenant(t *testing.T) {
	r := one(t)
	u, ada := r.ada()
	other := r.user(r.call(http.MethodPost, "/register", "", `{"email":"bob@example.com","password":"canary-Bob-1!"}`))
	root := r.admin().AccessToken
	theirs := auth.Grant{Product: "vault", Namespace: "team-b", Role: auth.RoleAdmin}
	mine := auth.Grant{Product: "vault", Namespace: "team-a", Role: auth.RoleAdmin}
	viewer := auth.Grant{Product: "vault", Namespace: "team-a", Role: auth.RoleViewer}
	r.wants("bob", r.grant(root, other.ID.String(), theirs), 200)
	r.wants("ada", r.grant(root, u.ID.String(), mine), 200)

	for name, g := range map[string]auth.Grant{
		"another namespace": {Product: "vault", Namespace: "team-b", Role: auth.RoleViewer},
		"every namespace":   {Product: "vault", Namespace: "*", Role: auth.RoleViewer},
		"another product":   {Product: "notify", Namespace: "team-a", Role: auth.RoleViewer},
		"every product":     {Product: "*", Namespace: "team-a", Role: auth.RoleViewer},
	} {
		r.wants(name, r.grant(ada.AccessToken, u.ID.String(), mine, g), 403)
	}
	r.wants("within her own namespace", r.grant(ada.AccessToken, other.ID.String(), viewer), 200, `"role":"viewer"`)
	r.wants("outside her namespace", r.grant(ada.AccessToken, other.ID.String()), 200, `"grants":[]`)
	list := r.call(http.MethodGet, "/users", ada.AccessToken, "")
	r.wants("the list", list, 200, "team-a")
	if strings.Contains(list.body, "team-b") {
		t.Errorf("she sees another tenant's grants: %s", list.body)
	}
	bob, err := r.users.get(t.Context(), other.ID.String())
	if err != nil || len(bob.Grants) != 1 || bob.Grants[0] != theirs {
		t.Errorf("bob has %+v %v", bob.Grants, err)
	}
	for name, want := range map[string]struct {
		id     string
		status int
	}{
		"no such user": {"00000000-0000-0000-0000-000000000001", 404}, "no id": {"1' OR '1'='1", 422}, "another form": {"..%2F..%2Fme", 422},
	} {
		r.wants(name, r.call(http.MethodPut, "/users/"+strings.ReplaceAll(strings.ReplaceAll(want.id, " ", "%20"), "'", "%27")+"/grants", root, `{"grants":[]}`), want.status)
	}
}

func TestGrantsAreChecked(t *testing.T) {
	r := one(t)
	u, _ := r.ada()
	root := r.admin().AccessToken
	for name, g := range map[string]auth.Grant{
		"role":      {Product: "vault", Namespace: "team-a", Role: "owner"},
		"no role":   {Product: "vault", Namespace: "team-a"},
		"namespace": {Product: "vault", Namespace: "Team/A", Role: auth.RoleViewer},
		"product":   {Product: "", Namespace: "team-a", Role: auth.RoleViewer},
	} {
		r.wants(name, r.grant(root, u.ID.String(), g), 422)
	}
	r.wants("more", r.call(http.MethodPut, "/users/"+u.ID.String()+"/grants", root, `{"grants":[],"email":"eve@example.com"}`), 422)
	r.wants("null", r.call(http.MethodPut, "/users/"+u.ID.String()+"/grants", root, `{"grants":null}`), 422)
}

// TestLastAdministrator checks that of two administrators who revoke each other's grants concurrently one remains.
func TestLastAdministrator(t *testing.T) {
	r := one(t)
	u, ada := r.ada()
	first := r.admin()
	me := r.user(r.call(http.MethodGet, "/me", first.AccessToken, ""))
	r.wants("the last one", r.grant(first.AccessToken, me.ID.String()), 409)
	r.wants("a second", r.grant(first.AccessToken, u.ID.String(), root), 200)
	var group sync.WaitGroup
	group.Go(func() { r.grant(first.AccessToken, u.ID.String()) })
	group.Go(func() { r.grant(ada.AccessToken, me.ID.String()) })
	group.Wait()
	var count int
	err := r.users.pool.QueryRow(t.Context(), `SELECT count(*) FROM users WHERE grants @> '[{"product":"*","namespace":"*","role":"admin"}]'`).Scan(&count)
	if err != nil || count != 1 {
		t.Errorf("%d administrators, want 1 (%v)", count, err)
	}
}

func TestUserPages(t *testing.T) {
	r := one(t)
	admin := r.admin().AccessToken
	for i := range 4 {
		if _, err := insertUser(t.Context(), r.users.pool, fmt.Sprintf("u%d@example.com", i), "", "", nil); err != nil {
			t.Fatal(err)
		}
	}
	var seen []string
	cursor := ""
	for range 10 {
		var page struct {
			Data struct {
				Items []User
				Next  string
			}
		}
		a := r.call(http.MethodGet, "/users?limit=2&cursor="+cursor, admin, "")
		r.wants("a page", a, 200)
		a.json(t, &page)
		for _, u := range page.Data.Items {
			seen = append(seen, u.Email)
		}
		if cursor = page.Data.Next; cursor == "" {
			break
		}
	}
	if got := strings.Join(seen, " "); got != "root@example.com u0@example.com u1@example.com u2@example.com u3@example.com" {
		t.Errorf("pages: %s", got)
	}
	r.wants("a forged cursor", r.call(http.MethodGet, "/users?cursor=Zm9yZ2Vk", admin, ""), 400)
}
