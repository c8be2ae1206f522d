// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/itechsmart/operator/internal/backend"
)

// Tenant is a role and a schema of the same name: the role owns the schema, has only it in its search path, and
// has no other privilege.
type Tenant struct {
	// Name has letters, digits and '_', at most 63 bytes.
	Name string
	// Mark is the comment of both, and identifies their owner.
	Mark string
	// Connections limits the role's concurrent connections; 0: the server's limit.
	Connections int32
}

// Tenants is an Admin that also gives programs a role and a schema of their own.
type Tenants interface {
	Admin
	// Tenant reads the mark of the role and the schema. It is empty if theirs differ. ErrNotFound if neither
	// exists. (A role belongs to the server, a schema to one of its databases.)
	Tenant(ctx context.Context, name string) (Tenant, error)
	// EnsureTenant creates the role and the schema if they are missing, and sets the password, the mark, the
	// search path and the connection limit. former is a mark they may have instead; empty: none. ErrExists if
	// either has another mark, or administers the server, or the schema has another owner.
	EnsureTenant(ctx context.Context, tenant Tenant, password, former string) error
}

// URI returns postgresql://user:password@host:port/database.
func URI(b backend.Binding) string { return b.ComposeURI("postgresql", "/"+b.Database) }

// NewTenants is New for Tenants.
func NewTenants(b backend.Binding) (Tenants, error) {
	a, err := New(b)
	if err != nil {
		return nil, err
	}
	return a.(*admin), nil
}

var _ Tenants = (*admin)(nil)

// tenantState is the catalogue's state of a tenant.
type tenantState struct {
	role, schema         bool
	roleMark, schemaMark string
	owner                string
	path                 []string // settings of the role in this database
	super                bool     // the current user
	connections          int32    // of the role; -1: no limit
}

const describeTenant = `SELECT r.oid IS NOT NULL, n.oid IS NOT NULL,
	coalesce(shobj_description(r.oid, 'pg_authid'), ''), coalesce(obj_description(n.oid, 'pg_namespace'), ''),
	coalesce(pg_get_userbyid(n.nspowner), ''),
	coalesce((SELECT s.setconfig FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
		WHERE s.setrole = r.oid AND d.datname = current_database()), '{}'),
	(SELECT rolsuper FROM pg_roles WHERE rolname = current_user), coalesce(r.rolconnlimit, -1)
	FROM (SELECT 1) one LEFT JOIN pg_roles r ON r.rolname = $1 LEFT JOIN pg_namespace n ON n.nspname = $1`

func (a *admin) describeTenant(ctx context.Context, name string) (s tenantState, err error) {
	if err := errors.Join(validSchema(name), validRole(name)); err != nil {
		return s, err
	}
	err = a.pool.QueryRow(ctx, describeTenant, name).Scan(&s.role, &s.schema, &s.roleMark, &s.schemaMark, &s.owner, &s.path, &s.super, &s.connections)
	return s, err
}

// mark returns the common mark; empty if they differ.
func (s tenantState) mark() string {
	switch {
	case !s.schema:
		return s.roleMark
	case !s.role || s.roleMark == s.schemaMark:
		return s.schemaMark
	}
	return ""
}

// foreign returns what belongs to another owner; empty: nothing.
func (s tenantState) foreign(name, mark, former string) string {
	ours := func(m string) bool { return m == mark || former != "" && m == former }
	switch {
	case s.role && !ours(s.roleMark):
		return "the role has another owner"
	case s.schema && !ours(s.schemaMark):
		return "the schema has another owner"
	case s.schema && s.owner != name && s.role:
		return "the schema belongs to role " + s.owner
	}
	return ""
}

func (a *admin) Tenant(ctx context.Context, name string) (Tenant, error) {
	s, err := a.describeTenant(ctx, name)
	if err == nil && !s.role && !s.schema {
		err = pgx.ErrNoRows
	}
	if err != nil {
		return Tenant{}, Error(a.binding, "tenant "+name, err)
	}
	return Tenant{Name: name, Mark: s.mark(), Connections: max(s.connections, 0)}, nil
}

func (a *admin) EnsureTenant(ctx context.Context, tenant Tenant, password, former string) error {
	op := "ensure tenant " + tenant.Name
	if tenant.Mark == "" || password == "" {
		return fmt.Errorf("%s: the mark and the password must not be empty: %w", op, backend.ErrInvalid)
	}
	s, err := a.describeTenant(ctx, tenant.Name)
	if err != nil {
		return Error(a.binding, op, err)
	}
	if _, err := a.tenant(ctx, tenant.Name); err != nil {
		return Error(a.binding, op, err)
	}
	if why := s.foreign(tenant.Name, tenant.Mark, former); why != "" {
		return Error(a.binding, op, fmt.Errorf("%w: %s", backend.ErrExists, why))
	}
	statements, err := a.tenantStatements(ctx, s, tenant, password)
	if err != nil {
		return a.redactedError(op, password, err)
	}
	if len(statements) == 0 {
		return nil
	}
	return a.redactedError(op, password, a.exec(ctx, op, statements...))
}

// tenantStatements returns the statements from the current to the desired state; they run as one transaction.
func (a *admin) tenantStatements(ctx context.Context, s tenantState, tenant Tenant, password string) ([]string, error) {
	var out []string
	name := Quote(tenant.Name)
	same, err := a.hasPassword(ctx, s.role, tenant.Name, password)
	if err != nil {
		return nil, err
	}
	if !same {
		secret, err := newVerifier(password)
		if err != nil {
			return nil, err
		}
		verb := "CREATE"
		if s.role {
			verb = "ALTER"
		}
		out = append(out, verb+" ROLE "+name+" LOGIN PASSWORD "+literal(secret))
	}
	limit := tenant.Connections
	if limit == 0 {
		limit = -1 // no limit
	}
	if s.connections != limit {
		out = append(out, fmt.Sprintf("ALTER ROLE %s CONNECTION LIMIT %d", name, limit))
	}
	if !s.role || s.roleMark != tenant.Mark {
		out = append(out, "COMMENT ON ROLE "+name+" IS "+literal(tenant.Mark))
	}
	if want := "search_path=" + name; !s.hasSetting(want) {
		out = append(out, "ALTER ROLE "+name+" IN DATABASE "+Quote(a.binding.Database)+" SET search_path TO "+name)
	}
	if !s.super && (!s.role || !s.schema) {
		// Only a member can transfer ownership to a role.
		out = append(out, "GRANT "+name+" TO CURRENT_USER")
	}
	switch {
	case !s.schema:
		out = append(out, "CREATE SCHEMA "+name+" AUTHORIZATION "+name)
	case s.owner != tenant.Name:
		// The role was dropped by hand, and what it owned was transferred to another.
		out = append(out, "ALTER SCHEMA "+name+" OWNER TO "+name)
	}
	if !s.schema || s.schemaMark != tenant.Mark {
		out = append(out, "COMMENT ON SCHEMA "+name+" IS "+literal(tenant.Mark))
	}
	return out, nil
}

// hasSetting reports whether the role's settings have this one; the server omits unnecessary quotes.
func (s tenantState) hasSetting(want string) bool {
	for _, setting := range s.path {
		if setting == want || setting == strings.ReplaceAll(want, `"`, "") {
			return true
		}
	}
	return false
}
