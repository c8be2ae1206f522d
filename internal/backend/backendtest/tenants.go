// SPDX-License-Identifier: Apache-2.0

package backendtest

import (
	"context"
	"testing"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/postgres"
)

// Tenants runs the suite of what postgres.Tenants adds to Admin.
func Tenants(t *testing.T, login string, open func(testing.TB) postgres.Tenants) {
	s := tenantSuite{admin: open(t), login: login}
	t.Cleanup(func() { Must(t, s.admin.Close()) })
	for name, test := range map[string]func(*testing.T){
		"Made": s.made, "Mark": s.mark, "Foreign": s.foreign, "Repaired": s.repaired, "Invalid": s.invalid,
		"Limit": s.limit,
	} {
		t.Run(name, test)
	}
}

type tenantSuite struct {
	admin postgres.Tenants
	login string
}

func (s tenantSuite) tenant(t *testing.T, mark string) postgres.Tenant {
	t.Helper()
	tenant := postgres.Tenant{Name: Name("tenant"), Mark: mark}
	after(t, func(ctx context.Context) error { return s.admin.DropRole(ctx, tenant.Name) })
	after(t, func(ctx context.Context) error { return s.admin.DropSchema(ctx, tenant.Name) })
	return tenant
}

func (s tenantSuite) read(t *testing.T, name string) postgres.Tenant {
	t.Helper()
	got, err := s.admin.Tenant(Context(t), name)
	Must(t, err)
	return got
}

func (s tenantSuite) made(t *testing.T) {
	ctx := Context(t)
	tenant := s.tenant(t, "mark one")
	_, err := s.admin.Tenant(ctx, tenant.Name)
	WantIs(t, err, backend.ErrNotFound)
	for range 2 { // the second finds it
		Must(t, s.admin.EnsureTenant(ctx, tenant, "secret one", ""))
		if got := s.read(t, tenant.Name); got != tenant {
			t.Errorf("got %+v, want %+v", got, tenant)
		}
	}
	schema, err := s.admin.Schema(ctx, tenant.Name)
	Must(t, err)
	if schema.Owner != tenant.Name {
		t.Errorf("the schema belongs to %s", schema.Owner)
	}
	Ended(t, func(ctx context.Context) error { return s.admin.EnsureTenant(ctx, tenant, "secret one", "") })
}

// limit checks that the role's connection limit is set, changed and removed, without any other change to the
// tenant.
func (s tenantSuite) limit(t *testing.T) {
	ctx := Context(t)
	tenant := s.tenant(t, "mine")
	for _, connections := range []int32{12, 12, 30, 0, 5} {
		tenant.Connections = connections
		Must(t, s.admin.EnsureTenant(ctx, tenant, "secret", ""))
		if got := s.read(t, tenant.Name); got != tenant {
			t.Errorf("got %+v, want %+v", got, tenant)
		}
	}
	// The password changes in the same call, and what was removed by hand is restored with its limit.
	tenant.Connections = 9
	Must(t, s.admin.EnsureTenant(ctx, tenant, "another secret", ""))
	Must(t, s.admin.DropRole(ctx, tenant.Name))
	Must(t, s.admin.EnsureTenant(ctx, tenant, "another secret", ""))
	if got := s.read(t, tenant.Name); got != tenant {
		t.Errorf("got %+v, want %+v", got, tenant)
	}
}

// mark checks that another mark is refused, unless it is the former one.
func (s tenantSuite) mark(t *testing.T) {
	ctx := Context(t)
	tenant := s.tenant(t, "it's mine")
	Must(t, s.admin.EnsureTenant(ctx, tenant, "secret", ""))
	other := tenant
	other.Mark = "another's"
	WantIs(t, s.admin.EnsureTenant(ctx, other, "stolen", ""), backend.ErrExists)
	WantIs(t, s.admin.EnsureTenant(ctx, other, "stolen", "neither"), backend.ErrExists)
	if got := s.read(t, tenant.Name); got.Mark != tenant.Mark {
		t.Errorf("the mark is %q", got.Mark)
	}
	Must(t, s.admin.EnsureTenant(ctx, other, "secret", tenant.Mark))
	if got := s.read(t, tenant.Name); got.Mark != other.Mark {
		t.Errorf("the mark is %q, want %q", got.Mark, other.Mark)
	}
}

// foreign checks that a role or schema that we did not create is refused.
func (s tenantSuite) foreign(t *testing.T) {
	ctx := Context(t)
	role := s.tenant(t, "mine")
	Must(t, s.admin.EnsureRole(ctx, role.Name, "theirs"))
	WantIs(t, s.admin.EnsureTenant(ctx, role, "secret", ""), backend.ErrExists)
	if got := s.read(t, role.Name); got.Mark != "" {
		t.Errorf("a role without a comment has mark %q", got.Mark)
	}
	schema := s.tenant(t, "mine")
	Must(t, s.admin.EnsureSchema(ctx, schema.Name, ""))
	WantIs(t, s.admin.EnsureTenant(ctx, schema, "secret", ""), backend.ErrExists)
	WantIs(t, s.admin.EnsureRole(ctx, s.login, "secret"), backend.ErrExists)
	WantIs(t, s.admin.EnsureTenant(ctx, postgres.Tenant{Name: s.login, Mark: "mine"}, "secret", ""), backend.ErrExists)
}

// repaired checks that what was removed by hand is created again.
func (s tenantSuite) repaired(t *testing.T) {
	ctx := Context(t)
	tenant := s.tenant(t, "mine")
	Must(t, s.admin.EnsureTenant(ctx, tenant, "secret", ""))
	Must(t, s.admin.DropSchema(ctx, tenant.Name))
	Must(t, s.admin.EnsureTenant(ctx, tenant, "secret", ""))
	Must(t, s.admin.DropRole(ctx, tenant.Name)) // its schema becomes the login's
	Must(t, s.admin.EnsureTenant(ctx, tenant, "secret", ""))
	schema, err := s.admin.Schema(ctx, tenant.Name)
	Must(t, err)
	if schema.Owner != tenant.Name || schema.Comment != tenant.Mark {
		t.Errorf("the schema is %+v", schema)
	}
}

func (s tenantSuite) invalid(t *testing.T) {
	ctx := Context(t)
	for _, name := range []string{"", "a b", `a"; DROP SCHEMA public; --`, "pg_mine", "public-1"} {
		_, err := s.admin.Tenant(ctx, name)
		WantIs(t, err, backend.ErrInvalid)
		WantIs(t, s.admin.EnsureTenant(ctx, postgres.Tenant{Name: name, Mark: "m"}, "secret", ""), backend.ErrInvalid)
	}
	tenant := s.tenant(t, "")
	WantIs(t, s.admin.EnsureTenant(ctx, tenant, "secret", ""), backend.ErrInvalid)
	tenant.Mark = "mine"
	WantIs(t, s.admin.EnsureTenant(ctx, tenant, "", ""), backend.ErrInvalid)
}
