// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/itechsmart/operator/internal/backend"
)

var _ Tenants = (*Fake)(nil)

// tenantState reads the state of a tenant; the caller holds the lock.
func (f *Fake) tenantState(name string) tenantState {
	_, role := f.roles[name]
	schema, found := f.schemas[name]
	return tenantState{role: role, schema: found, roleMark: f.marks[name], connections: f.limits[name], schemaMark: schema.Comment, owner: schema.Owner}
}

// Tenant implements Tenants.
func (f *Fake) Tenant(ctx context.Context, name string) (Tenant, error) {
	if err := f.enter(ctx, "Tenant", errors.Join(validSchema(name), validRole(name))); err != nil {
		return Tenant{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.tenantState(name)
	if !s.role && !s.schema {
		return Tenant{}, missing("tenant", name)
	}
	return Tenant{Name: name, Mark: s.mark(), Connections: s.connections}, nil
}

// EnsureTenant implements Tenants.
func (f *Fake) EnsureTenant(ctx context.Context, tenant Tenant, password, former string) error {
	if err := f.enter(ctx, "EnsureTenant", errors.Join(validSchema(tenant.Name), validRole(tenant.Name))); err != nil {
		return err
	}
	if tenant.Mark == "" || password == "" {
		return fmt.Errorf("ensure tenant %s: the mark and the password must not be empty: %w", tenant.Name, backend.ErrInvalid)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	why := f.tenantState(tenant.Name).foreign(tenant.Name, tenant.Mark, former)
	if tenant.Name == fakeLogin {
		why = "it administers the server"
	}
	if why != "" {
		return fmt.Errorf("postgres: ensure tenant %s: %w: %s", tenant.Name, backend.ErrExists, why)
	}
	if f.marks == nil {
		f.marks, f.limits = map[string]string{}, map[string]int32{}
	}
	f.roles[tenant.Name], f.marks[tenant.Name], f.limits[tenant.Name] = password, tenant.Mark, tenant.Connections
	f.schemas[tenant.Name] = Schema{Name: tenant.Name, Owner: tenant.Name, Comment: tenant.Mark}
	return nil
}
