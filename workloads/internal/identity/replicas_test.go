// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"errors"
	"net/http"
	"testing"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/internal/auth"
)

// TestReplicas checks that a login on one is valid on the other, and so are revocations, within seconds.
func TestReplicas(t *testing.T) {
	c := database(t, servers.Postgres(t).Data())
	here, there := start(t, c, settings(), Options{}), start(t, c, settings(), Options{})
	u, ada := here.ada()
	here.wants("here", here.call(http.MethodGet, "/me", ada.AccessToken, ""), 200)
	there.wants("there", there.call(http.MethodGet, "/me", ada.AccessToken, ""), 200)
	admin := here.admin()
	there.wants("grant", there.grant(admin.AccessToken, u.ID.String(), auth.Grant{Product: "vault", Namespace: "team-a", Role: auth.RoleEditor}), 200)
	eventually(t, "the grant reaches the other replica", func() bool {
		p, err := here.Authenticate(t.Context(), ada.AccessToken)
		return err == nil && p.RoleOn("vault", "team-a") == auth.RoleEditor
	})
	refreshed := there.tokens(there.refreshWith(ada.RefreshToken))
	there.wants("reuse", there.refreshWith(ada.RefreshToken), 400)
	eventually(t, "the revocation reaches the other replica", func() bool {
		_, err := here.Authenticate(t.Context(), refreshed.AccessToken)
		return errors.Is(err, auth.ErrInvalidToken)
	})
	// A replica that starts later has them too.
	late := start(t, c, settings(), Options{})
	if _, err := late.Authenticate(t.Context(), ada.AccessToken); !errors.Is(err, auth.ErrInvalidToken) {
		t.Errorf("a late replica: %v", err)
	}
}

// TestWithoutDatabase checks that sessions continue, that logins get a Retry-After, and that they work once the database
// is back.
func TestWithoutDatabase(t *testing.T) {
	postgres := servers.StartPostgres(t)
	r := start(t, database(t, postgres.Binding.Data()), settings(), Options{})
	_, ada := r.ada()
	revoked := r.tokens(r.password(adaEmail, adaPassword))
	r.wants("revoke", r.post("/revoke", "token", revoked.RefreshToken), 200)
	postgres.Kill()
	p, err := r.Authenticate(t.Context(), ada.AccessToken)
	if err != nil || p.Name != adaEmail {
		t.Errorf("without the database: %+v %v", p, err)
	}
	if _, err := r.Authenticate(t.Context(), revoked.AccessToken); !errors.Is(err, auth.ErrInvalidToken) {
		t.Errorf("a revoked token without the database: %v", err)
	}
	for what, a := range map[string]answer{"login": r.password(adaEmail, adaPassword), "refresh": r.refreshWith(ada.RefreshToken)} {
		r.wants(what, a, 503)
		if a.header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", what)
		}
	}
	postgres.Restart(t)
	eventually(t, "logins work again", func() bool { return r.password(adaEmail, adaPassword).status == 200 })
	r.wants("the same refresh token", r.refreshWith(ada.RefreshToken), 200)
	if err := r.changes.refresh(t.Context()); err != nil {
		t.Error(err)
	}
}
