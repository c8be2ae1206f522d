// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/itechsmart/operator/internal/backend"
)

// Fake is an in-memory database. It embeds backend.Faults: Fail makes a method fail, Calls counts. Safe for
// concurrent use.
type Fake struct {
	backend.Faults

	// Version is returned by Ping.
	Version string

	mu      sync.Mutex
	schemas map[string]Schema
	tables  map[[2]string]Table
	roles   map[string]string    // password by role
	marks   map[string]string    // comment by role
	limits  map[string]int32     // of connections, by role
	grants  map[[2]string]Access // by schema and role
}

var _ Admin = (*Fake)(nil)

// fakeLogin is the fake's user.
const fakeLogin = "itechsmart"

// NewFake returns a database with the schema public.
func NewFake() *Fake {
	return &Fake{
		Version: "15.20",
		schemas: map[string]Schema{"public": {Name: "public", Owner: fakeLogin}},
		tables:  map[[2]string]Table{}, roles: map[string]string{}, grants: map[[2]string]Access{},
	}
}

// Password returns the password of a role; empty if there is no such role.
func (f *Fake) Password(role string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.roles[role]
}

// Granted returns the access of a role to a schema; empty if there is none.
func (f *Fake) Granted(schema, role string) Access {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.grants[[2]string{schema, role}]
}

func (f *Fake) enter(ctx context.Context, method string, invalid error) error {
	if err := f.Enter(ctx, method); err != nil {
		return err
	}
	return invalid
}

func missing(what, name string) error {
	return fmt.Errorf("postgres: %s %s: %w", what, name, backend.ErrNotFound)
}

// Ping implements Admin.
func (f *Fake) Ping(ctx context.Context) (string, error) {
	if err := f.Enter(ctx, "Ping"); err != nil {
		return "", err
	}
	return f.Version, nil
}

// Schema implements Admin.
func (f *Fake) Schema(ctx context.Context, name string) (Schema, error) {
	if err := f.enter(ctx, "Schema", validSchema(name)); err != nil {
		return Schema{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	schema, ok := f.schemas[name]
	if !ok {
		return Schema{}, missing("schema", name)
	}
	return schema, nil
}

// EnsureSchema implements Admin.
func (f *Fake) EnsureSchema(ctx context.Context, schema, owner string) error {
	if err := f.enter(ctx, "EnsureSchema", validSchema(schema)); err != nil {
		return err
	}
	if owner != "" {
		if err := validRole(owner); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	got, ok := f.schemas[schema]
	switch _, known := f.roles[owner]; {
	case ok && (owner == "" || got.Owner == owner):
		return nil
	case ok:
		return fmt.Errorf("postgres: ensure schema %s: %w: it belongs to %s, not to %s", schema, backend.ErrExists, got.Owner, owner)
	case owner == "":
		owner = fakeLogin
	case !known && owner != fakeLogin:
		return missing("role", owner)
	}
	f.schemas[schema] = Schema{Name: schema, Owner: owner}
	return nil
}

// EnsureRole implements Admin.
func (f *Fake) EnsureRole(ctx context.Context, role, password string) error {
	if err := f.enter(ctx, "EnsureRole", validRole(role)); err != nil {
		return err
	}
	if password == "" {
		return fmt.Errorf("role %s: the password is empty: %w", role, backend.ErrInvalid)
	}
	if role == fakeLogin {
		return fmt.Errorf("postgres: ensure role %s: %w: it administers the server", role, backend.ErrExists)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.roles[role] = password
	return nil
}

// DropRole implements Admin.
func (f *Fake) DropRole(ctx context.Context, role string) error {
	if err := f.enter(ctx, "DropRole", validRole(role)); err != nil {
		return err
	}
	if role == fakeLogin {
		return fmt.Errorf("postgres: drop role %s: %w: it administers the server", role, backend.ErrExists)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.roles[role]; !ok {
		return missing("role", role)
	}
	delete(f.roles, role)
	delete(f.marks, role)
	for name, schema := range f.schemas {
		if schema.Owner == role {
			schema.Owner = fakeLogin
			f.schemas[name] = schema
		}
		delete(f.grants, [2]string{name, role})
	}
	return nil
}

// GrantSchema implements Admin.
func (f *Fake) GrantSchema(ctx context.Context, schema, role string, access Access) error {
	if err := f.enter(ctx, "GrantSchema", validRole(role)); err != nil {
		return err
	}
	if access != ReadOnly && access != ReadWrite {
		return fmt.Errorf("access %q is neither %s nor %s: %w", access, ReadOnly, ReadWrite, backend.ErrInvalid)
	}
	return f.grant(schema, role, access)
}

// RevokeSchema implements Admin.
func (f *Fake) RevokeSchema(ctx context.Context, schema, role string) error {
	if err := f.enter(ctx, "RevokeSchema", validRole(role)); err != nil {
		return err
	}
	return f.grant(schema, role, "")
}

func (f *Fake) grant(schema, role string, access Access) error {
	if err := validSchema(schema); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.schemas[schema]; !ok {
		return missing("schema", schema)
	}
	if _, ok := f.roles[role]; !ok {
		return missing("role", role)
	}
	f.grants[[2]string{schema, role}] = access
	return nil
}

// Table implements Admin.
func (f *Fake) Table(ctx context.Context, schema, name string) (Table, error) {
	if err := f.enter(ctx, "Table", validTable(schema, name)); err != nil {
		return Table{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	table, ok := f.tables[[2]string{schema, name}]
	if !ok {
		return Table{}, missing("table", schema+"."+name)
	}
	table.Columns = slices.Clone(table.Columns)
	return table, nil
}

// CreateTable implements Admin.
func (f *Fake) CreateTable(ctx context.Context, table Table) error {
	if err := f.enter(ctx, "CreateTable", table.validate()); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	key := [2]string{table.Schema, table.Name}
	if _, ok := f.schemas[table.Schema]; !ok {
		return missing("schema", table.Schema)
	}
	if _, ok := f.tables[key]; ok {
		return fmt.Errorf("postgres: create table %s.%s: %w", table.Schema, table.Name, backend.ErrExists)
	}
	columns := make([]Column, len(table.Columns))
	for i, column := range table.Columns {
		if err := knownType(column); err != nil {
			return err
		}
		column.NotNull = column.NotNull || isSerial(column.Type) || slices.Contains(table.PrimaryKey, column.Name)
		columns[i] = column
	}
	table.Columns = columns
	f.tables[key] = table
	return nil
}

// AddColumns implements Admin.
func (f *Fake) AddColumns(ctx context.Context, schema, table string, columns []Column) error {
	if err := f.enter(ctx, "AddColumns", validTable(schema, table)); err != nil || len(columns) == 0 {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	key := [2]string{schema, table}
	got, ok := f.tables[key]
	if !ok {
		return missing("table", schema+"."+table)
	}
	got.Columns = slices.Clone(got.Columns)
	for _, column := range columns {
		if err := column.validate(); err != nil {
			return err
		}
		if err := knownType(column); err != nil {
			return err
		}
		if !slices.ContainsFunc(got.Columns, func(c Column) bool { return c.Name == column.Name }) {
			got.Columns = append(got.Columns, column)
		}
	}
	f.tables[key] = got
	return nil
}

// SetComment implements Admin.
func (f *Fake) SetComment(ctx context.Context, schema, table, comment string) error {
	if err := f.enter(ctx, "SetComment", validSchema(schema)); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if table == "" {
		got, ok := f.schemas[schema]
		if !ok {
			return missing("schema", schema)
		}
		got.Comment = comment
		f.schemas[schema] = got
		return nil
	}
	got, ok := f.tables[[2]string{schema, table}]
	if !ok {
		return missing("table", schema+"."+table)
	}
	got.Comment = comment
	f.tables[[2]string{schema, table}] = got
	return nil
}

// DropTable implements Admin.
func (f *Fake) DropTable(ctx context.Context, schema, name string) error {
	if err := f.enter(ctx, "DropTable", validTable(schema, name)); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.tables[[2]string{schema, name}]; !ok {
		return missing("table", schema+"."+name)
	}
	delete(f.tables, [2]string{schema, name})
	return nil
}

// DropSchema implements Admin.
func (f *Fake) DropSchema(ctx context.Context, name string) error {
	if err := f.enter(ctx, "DropSchema", validSchema(name)); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.schemas[name]; !ok {
		return missing("schema", name)
	}
	delete(f.schemas, name)
	for key := range f.tables {
		if key[0] == name {
			delete(f.tables, key)
		}
	}
	for key := range f.grants {
		if key[0] == name {
			delete(f.grants, key)
		}
	}
	return nil
}

// Close implements Admin.
func (f *Fake) Close() error { return f.Enter(context.Background(), "Close") }

// types are a server's types without extensions, after canonicalType.
var types = []string{
	"integer", "bigint", "smallint", "double", "real", "numeric", "boolean", "character", "bit", "text", "bytea",
	"timestamp", "time", "date", "interval", "uuid", "json", "jsonb", "xml", "inet", "cidr", "macaddr", "macaddr8",
	"money", "name", "oid", "point", "line", "lseg", "box", "path", "polygon", "circle", "tsvector", "tsquery",
	"int4range", "int8range", "numrange", "tsrange", "tstzrange", "daterange",
}

func knownType(column Column) error {
	if name := typeName.FindString(canonicalType(column.Type)); !slices.Contains(types, name) {
		return fmt.Errorf("postgres: column %s: type %s does not exist: %w", column.Name, column.Type, backend.ErrInvalid)
	}
	return nil
}
