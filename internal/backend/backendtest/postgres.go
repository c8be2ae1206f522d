// SPDX-License-Identifier: Apache-2.0

package backendtest

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/postgres"
)

// Postgres runs the suite of postgres.Admin, whose login is a superuser with the given name.
func Postgres(t *testing.T, login string, open func(testing.TB) postgres.Admin) {
	s := postgresSuite{admin: open(t), login: login}
	t.Cleanup(func() { Must(t, s.admin.Close()) })
	for name, test := range map[string]func(*testing.T){
		"Ping": s.ping, "Schema": s.schema, "Role": s.role, "Grant": s.grant, "Table": s.table, "Types": s.types,
		"Columns": s.columns, "Comments": s.comments, "Missing": s.missing, "Invalid": s.invalid,
	} {
		t.Run(name, test)
	}
}

type postgresSuite struct {
	admin postgres.Admin
	login string
}

// after runs a clean-up whose objects may already be gone.
func after(t *testing.T, drop func(context.Context) error) {
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		if err := drop(ctx); err != nil && !errors.Is(err, backend.ErrNotFound) {
			t.Error(err)
		}
	})
}

func (s postgresSuite) newSchema(t *testing.T, owner string) string {
	t.Helper()
	name := Name("schema")
	Must(t, s.admin.EnsureSchema(Context(t), name, owner))
	after(t, func(ctx context.Context) error { return s.admin.DropSchema(ctx, name) })
	return name
}

func (s postgresSuite) newRole(t *testing.T) string {
	t.Helper()
	name := Name("role")
	Must(t, s.admin.EnsureRole(Context(t), name, "first password"))
	after(t, func(ctx context.Context) error { return s.admin.DropRole(ctx, name) })
	return name
}

func (s postgresSuite) ping(t *testing.T) {
	version, err := s.admin.Ping(Context(t))
	Must(t, err)
	if strings.Count(version, ".") != 1 || strings.Contains(version, " ") {
		t.Errorf("version %q, want two numbers", version)
	}
	Ended(t, func(ctx context.Context) error { _, err := s.admin.Ping(ctx); return err })
}

func (s postgresSuite) schema(t *testing.T) {
	ctx := Context(t)
	role := s.newRole(t)
	name := s.newSchema(t, role)
	Must(t, s.admin.EnsureSchema(ctx, name, role))
	Must(t, s.admin.EnsureSchema(ctx, name, ""))
	got, err := s.admin.Schema(ctx, name)
	Must(t, err)
	if want := (postgres.Schema{Name: name, Owner: role}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	WantIs(t, s.admin.EnsureSchema(ctx, name, s.newRole(t)), backend.ErrExists)
	WantIs(t, s.admin.EnsureSchema(ctx, Name("schema"), Name("missing")), backend.ErrNotFound)
	Must(t, s.admin.DropSchema(ctx, name))
	_, err = s.admin.Schema(ctx, name)
	WantIs(t, err, backend.ErrNotFound)

	own := s.newSchema(t, "")
	got, err = s.admin.Schema(ctx, own)
	Must(t, err)
	if got.Owner != s.login {
		t.Errorf("owner %q, want the login %q", got.Owner, s.login)
	}
}

func (s postgresSuite) role(t *testing.T) {
	ctx := Context(t)
	role := s.newRole(t)
	Must(t, s.admin.EnsureRole(ctx, role, "first password"))
	Must(t, s.admin.EnsureRole(ctx, role, "second 'password' €"))
	schema := s.newSchema(t, role)
	Must(t, s.admin.DropRole(ctx, role))
	got, err := s.admin.Schema(ctx, schema)
	Must(t, err)
	if got.Owner != s.login {
		t.Errorf("the dropped role's schema belongs to %q, want %q", got.Owner, s.login)
	}
	WantIs(t, s.admin.DropRole(ctx, role), backend.ErrNotFound)
	WantIs(t, s.admin.EnsureRole(ctx, s.login, "taken over"), backend.ErrExists)
	WantIs(t, s.admin.DropRole(ctx, s.login), backend.ErrExists)
}

func (s postgresSuite) grant(t *testing.T) {
	ctx := Context(t)
	role, schema := s.newRole(t), s.newSchema(t, "")
	for _, access := range []postgres.Access{postgres.ReadOnly, postgres.ReadWrite, postgres.ReadWrite, postgres.ReadOnly} {
		Must(t, s.admin.GrantSchema(ctx, schema, role, access))
	}
	Must(t, s.admin.RevokeSchema(ctx, schema, role))
	Must(t, s.admin.RevokeSchema(ctx, schema, role))
	WantIs(t, s.admin.GrantSchema(ctx, schema, role, "Everything"), backend.ErrInvalid)
	for _, call := range []func(schema, role string) error{
		func(schema, role string) error { return s.admin.GrantSchema(ctx, schema, role, postgres.ReadOnly) },
		func(schema, role string) error { return s.admin.RevokeSchema(ctx, schema, role) },
	} {
		WantIs(t, call(Name("missing"), role), backend.ErrNotFound)
		WantIs(t, call(schema, Name("missing")), backend.ErrNotFound)
	}
}

func (s postgresSuite) newTable(schema string) postgres.Table {
	return postgres.Table{
		Schema: schema, Name: Name("events"),
		Columns: []postgres.Column{
			{Name: "tenant", Type: "varchar( 63 )"},
			{Name: "id", Type: "bigserial"},
			{Name: "time", Type: "timestamptz", NotNull: true, Default: "now()"},
			{Name: "level", Type: "text", NotNull: true, Default: "'info'"},
			{Name: "body", Type: "jsonb", Default: "'{}'"},
			{Name: "Price", Type: "decimal(10, 2)"},
		},
		PrimaryKey: []string{"tenant", "id"}, Comment: `it's a "test" \ 100%`,
	}
}

func (s postgresSuite) wantTable(t *testing.T, want postgres.Table) {
	t.Helper()
	got, err := s.admin.Table(Context(t), want.Schema, want.Name)
	Must(t, err)
	if drift := want.Drift(got); !drift.None() {
		t.Errorf("drift %+v\ngot  %+v\nwant %+v", drift, got, want)
	}
}

func (s postgresSuite) table(t *testing.T) {
	ctx := Context(t)
	want := s.newTable(s.newSchema(t, ""))
	Must(t, s.admin.CreateTable(ctx, want))
	s.wantTable(t, want)
	WantIs(t, s.admin.CreateTable(ctx, want), backend.ErrExists)
	Must(t, s.admin.DropTable(ctx, want.Schema, want.Name))
	_, err := s.admin.Table(ctx, want.Schema, want.Name)
	WantIs(t, err, backend.ErrNotFound)
	Must(t, s.admin.CreateTable(ctx, want)) // the name is available again
	Must(t, s.admin.DropSchema(ctx, want.Schema))
	_, err = s.admin.Table(ctx, want.Schema, want.Name)
	WantIs(t, err, backend.ErrNotFound)
}

func (s postgresSuite) types(t *testing.T) {
	table := postgres.Table{Schema: s.newSchema(t, ""), Name: Name("types")}
	for i, kind := range []string{
		"int", "INT8", "smallint", "double precision", "float", "float4", "bool", "char(3)", "text[]", "integer [ ]",
		"timestamp", "timestamp(3)", "timestamptz(3)", "timestamp with time zone", "timestamp (6) with time zone",
		"time", "uuid", "bytea", "inet", "numeric", "character varying(5)", "date", "interval", "bit varying(8)",
	} {
		table.Columns = append(table.Columns, postgres.Column{Name: "c" + strings.Repeat("x", i), Type: kind})
	}
	Must(t, s.admin.CreateTable(Context(t), table))
	s.wantTable(t, table)
}

func (s postgresSuite) columns(t *testing.T) {
	ctx := Context(t)
	want := s.newTable(s.newSchema(t, ""))
	Must(t, s.admin.CreateTable(ctx, want))
	added := []postgres.Column{{Name: "extra", Type: "double precision", NotNull: true, Default: "1.5"}, {Name: "more", Type: "text[]"}}
	want.Columns = append(want.Columns, added...)
	got, err := s.admin.Table(ctx, want.Schema, want.Name)
	Must(t, err)
	if drift := want.Drift(got); len(drift.Missing) != 2 || len(drift.Fixed) != 0 {
		t.Errorf("drift %+v, want both columns as missing, and no other", drift)
	}
	Must(t, s.admin.AddColumns(ctx, want.Schema, want.Name, added))
	Must(t, s.admin.AddColumns(ctx, want.Schema, want.Name, added))
	Must(t, s.admin.AddColumns(ctx, want.Schema, want.Name, nil))
	s.wantTable(t, want)
	want.Columns[3].Type, want.Columns[4].Default, want.PrimaryKey = "integer", "", nil
	got, err = s.admin.Table(ctx, want.Schema, want.Name)
	Must(t, err)
	// The key made its columns NOT NULL, except the serial one, which already is.
	if drift := want.Drift(got); len(drift.Fixed) != 4 {
		t.Errorf("drift %q, want four", drift.Fixed)
	}
}

func (s postgresSuite) comments(t *testing.T) {
	ctx := Context(t)
	table := s.newTable(s.newSchema(t, ""))
	Must(t, s.admin.CreateTable(ctx, table))
	for _, comment := range []string{"owner: a/b", "", `'; DROP TABLE x; -- \`} {
		Must(t, s.admin.SetComment(ctx, table.Schema, "", comment))
		got, err := s.admin.Schema(ctx, table.Schema)
		Must(t, err)
		if got.Comment != comment {
			t.Errorf("comment %q, want %q", got.Comment, comment)
		}
		table.Comment = comment
		Must(t, s.admin.SetComment(ctx, table.Schema, table.Name, comment))
		s.wantTable(t, table)
	}
}

func (s postgresSuite) missing(t *testing.T) {
	ctx, name := Context(t), Name("missing")
	schema := s.newSchema(t, "")
	for method, call := range map[string]func(schema string) error{
		"Table": func(schema string) error { _, err := s.admin.Table(ctx, schema, name); return err },
		"AddColumns": func(schema string) error {
			return s.admin.AddColumns(ctx, schema, name, []postgres.Column{{Name: "c", Type: "text"}})
		},
		"SetComment": func(schema string) error { return s.admin.SetComment(ctx, schema, name, "text") },
		"DropTable":  func(schema string) error { return s.admin.DropTable(ctx, schema, name) },
	} {
		for _, in := range []string{schema, Name("missing")} {
			if err := call(in); !errors.Is(err, backend.ErrNotFound) {
				t.Errorf("%s in %s: got %v, want ErrNotFound", method, in, err)
			}
		}
	}
	WantIs(t, s.admin.CreateTable(ctx, s.newTable(name)), backend.ErrNotFound)
	WantIs(t, s.admin.SetComment(ctx, name, "", "text"), backend.ErrNotFound)
	WantIs(t, s.admin.DropSchema(ctx, name), backend.ErrNotFound)
}

func (s postgresSuite) invalid(t *testing.T) {
	ctx := Context(t)
	schema := s.newSchema(t, "")
	for name, change := range map[string]func(*postgres.Table){
		"schema":          func(t *postgres.Table) { t.Schema = "pg_catalog" },
		"name":            func(t *postgres.Table) { t.Name = `a"b` },
		"long name":       func(t *postgres.Table) { t.Name = strings.Repeat("a", 64) },
		"no columns":      func(t *postgres.Table) { t.Columns = nil },
		"column":          func(t *postgres.Table) { t.Columns[0].Name = "a b" },
		"column twice":    func(t *postgres.Table) { t.Columns[1].Name = t.Columns[0].Name },
		"type":            func(t *postgres.Table) { t.Columns[0].Type = "nosuchtype" },
		"type injected":   func(t *postgres.Table) { t.Columns[0].Type = "text DEFAULT pg_read_file('x')" },
		"default":         func(t *postgres.Table) { t.Columns[0].Default = "'a'), x text DEFAULT ('b'" },
		"default queries": func(t *postgres.Table) { t.Columns[0].Default = "(select 1)" },
		"default reads":   func(t *postgres.Table) { t.Columns[0].Default = "pg_read_file('x')" },
		"key":             func(t *postgres.Table) { t.PrimaryKey = []string{"missing"} },
	} {
		table := s.newTable(schema)
		change(&table)
		if err := s.admin.CreateTable(ctx, table); !errors.Is(err, backend.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
	WantIs(t, s.admin.EnsureSchema(ctx, "a-b", ""), backend.ErrInvalid)
	WantIs(t, s.admin.DropSchema(ctx, "information_schema"), backend.ErrInvalid)
	WantIs(t, s.admin.EnsureRole(ctx, "pg_monitor", "password"), backend.ErrInvalid)
	WantIs(t, s.admin.EnsureRole(ctx, Name("role"), ""), backend.ErrInvalid)
}
