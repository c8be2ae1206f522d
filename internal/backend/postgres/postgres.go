// SPDX-License-Identifier: Apache-2.0

// Package postgres administers PostgreSQL: schemas, roles, grants and tables. It also opens the pool of
// services and connectors.
package postgres

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/internal/sqltext"
)

// Schema is an existing schema.
type Schema struct{ Name, Owner, Comment string }

// Column is one column of a table.
type Column struct {
	Name string
	// Type as PostgreSQL writes it, such as numeric(10,2) or text[].
	Type    string
	NotNull bool
	// Default is an expression; empty means none.
	Default string
}

// Table is a desired or an existing table.
type Table struct {
	Schema, Name string
	Columns      []Column
	// PrimaryKey lists columns; empty means none.
	PrimaryKey []string
	Comment    string
}

// Access is what a role may do with all present and future tables of a schema.
type Access string

const (
	// ReadOnly may read every table.
	ReadOnly Access = "ReadOnly"
	// ReadWrite may read, insert, update and delete, and use sequences.
	ReadWrite Access = "ReadWrite"
)

// Admin administers one database. Every method honours the context's deadline and wraps a sentinel of package
// backend; each may return ErrUnavailable, ErrAuth and, for an invalid name, type or expression, ErrInvalid.
type Admin interface {
	// Ping returns the server's version, such as "15.20".
	Ping(ctx context.Context) (version string, err error)
	// Schema reads a schema; ErrNotFound.
	Schema(ctx context.Context, name string) (Schema, error)
	// EnsureSchema creates the schema for owner (the login itself if empty) if it is missing. ErrExists if it
	// has another owner; ErrNotFound without owner.
	EnsureSchema(ctx context.Context, schema, owner string) error
	// EnsureRole creates a role that can log in with the password, or sets its password. The server gets a
	// SCRAM-SHA-256 verifier, never the password. ErrExists for a role that administers the server.
	EnsureRole(ctx context.Context, role, password string) error
	// GrantSchema grants a role access to the present and future tables of a schema; ErrNotFound.
	GrantSchema(ctx context.Context, schema, role string, access Access) error
	// RevokeSchema revokes it; ErrNotFound.
	RevokeSchema(ctx context.Context, schema, role string) error
	// Table reads one table; ErrNotFound.
	Table(ctx context.Context, schema, name string) (Table, error)
	// CreateTable: ErrExists; ErrNotFound if the schema is missing.
	CreateTable(ctx context.Context, table Table) error
	// AddColumns adds the missing ones of the columns; ErrNotFound.
	AddColumns(ctx context.Context, schema, table string, columns []Column) error
	// SetComment changes the comment of a table, or of the schema if table is empty; ErrNotFound.
	SetComment(ctx context.Context, schema, table, comment string) error
	// DropTable drops a table with its data; ErrNotFound; ErrInvalid while others depend on it.
	DropTable(ctx context.Context, schema, name string) error
	// DropSchema drops a schema with its contents; ErrNotFound.
	DropSchema(ctx context.Context, name string) error
	// DropRole drops a role; the login becomes the owner of its objects. ErrNotFound; ErrExists as EnsureRole.
	DropRole(ctx context.Context, role string) error
	// Close releases the connections.
	Close() error
}

// maxIdentifier is NAMEDATALEN-1: the server would truncate longer ones.
const maxIdentifier = 63

// ValidIdentifier refuses anything outside [A-Za-z_][A-Za-z0-9_]* or longer than
// 63 bytes; ErrInvalid.
func ValidIdentifier(name string) error { return validName("identifier", name) }

func validName(what, name string) error { return sqltext.Identifier(what, name, maxIdentifier) }

// validSchema also refuses the server's own schemas.
func validSchema(name string) error {
	if strings.HasPrefix(strings.ToLower(name), "pg_") || strings.EqualFold(name, "information_schema") {
		return fmt.Errorf("schema %q is the server's own: %w", name, backend.ErrInvalid)
	}
	return validName("schema", name)
}

func validRole(name string) error {
	if strings.HasPrefix(strings.ToLower(name), "pg_") || strings.EqualFold(name, "public") {
		return fmt.Errorf("role %q is the server's own: %w", name, backend.ErrInvalid)
	}
	return validName("role", name)
}

func validTable(schema, name string) error {
	if err := validSchema(schema); err != nil {
		return err
	}
	return validName("table", name)
}

// Quote quotes an identifier for SQL, its parts joined by dots.
func Quote(parts ...string) string { return pgx.Identifier(parts).Sanitize() }

// literal quotes a string for SQL; standard_conforming_strings is on everywhere.
func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

var (
	typeForm = regexp.MustCompile(`^(double precision|character varying|bit varying|[A-Za-z_][A-Za-z0-9_]*)` +
		`(\([A-Za-z0-9_,-]+\))?( ?with(out)? time zone)?(\[\])*$`)
	// forbidden in defaults: queries and functions that reach the server's files or other servers.
	forbidden = []string{"SELECT", "PG_READ*(", "PG_LS*(", "PG_SLEEP*(", "PG_TERMINATE*(", "LO_*(", "DBLINK*(", "SET_CONFIG(", "QUERY_TO_XML*("}
)

func (c Column) validate() error {
	if err := validName("column", c.Name); err != nil {
		return err
	}
	if !typeForm.MatchString(sqltext.Normalize(c.Type)) {
		return fmt.Errorf("column %s: type %q is not the name of a type: %w", c.Name, c.Type, backend.ErrInvalid)
	}
	return sqltext.Expression("column "+c.Name+": default", c.Default, false, forbidden...)
}

// sql returns the column's definition.
func (c Column) sql() string {
	text := Quote(c.Name) + " " + c.Type
	if c.NotNull {
		text += " NOT NULL"
	}
	if c.Default != "" {
		text += " DEFAULT (" + c.Default + ")"
	}
	return text
}

func (t Table) validate() error {
	if err := validTable(t.Schema, t.Name); err != nil {
		return err
	}
	if len(t.Columns) == 0 {
		return fmt.Errorf("table %s has no columns: %w", t.Name, backend.ErrInvalid)
	}
	names := map[string]bool{}
	for _, column := range t.Columns {
		if err := column.validate(); err != nil {
			return err
		}
		if names[column.Name] {
			return fmt.Errorf("column %s is listed twice: %w", column.Name, backend.ErrInvalid)
		}
		names[column.Name] = true
	}
	for _, name := range t.PrimaryKey {
		if !names[name] {
			return fmt.Errorf("primary key: there is no column %q: %w", name, backend.ErrInvalid)
		}
	}
	return nil
}

// create returns the CREATE TABLE statement.
func (t Table) create() string {
	parts := make([]string, 0, len(t.Columns)+1)
	for _, column := range t.Columns {
		parts = append(parts, column.sql())
	}
	if len(t.PrimaryKey) > 0 {
		key := make([]string, len(t.PrimaryKey))
		for i, name := range t.PrimaryKey {
			key[i] = Quote(name)
		}
		parts = append(parts, "PRIMARY KEY ("+strings.Join(key, ", ")+")")
	}
	return "CREATE TABLE " + Quote(t.Schema, t.Name) + " (" + strings.Join(parts, ", ") + ")"
}

// Drift is the difference between a desired and an existing table.
type Drift struct {
	// Missing columns are to be added. Additional columns are left alone.
	Missing []Column
	Comment bool
	// Fixed describes, for people, what this package does not change: types, defaults, NOT NULL and the primary
	// key.
	Fixed []string
}

// None reports whether nothing differs.
func (d Drift) None() bool { return len(d.Missing) == 0 && !d.Comment && len(d.Fixed) == 0 }

// Drift compares the desired table with the existing one, ignoring spacing, aliases of types and casts that the
// server adds.
func (t Table) Drift(got Table) Drift {
	var d Drift
	for _, want := range t.Columns {
		i := slices.IndexFunc(got.Columns, func(c Column) bool { return c.Name == want.Name })
		if i < 0 {
			d.Missing = append(d.Missing, want)
			continue
		}
		is := got.Columns[i]
		if !SameType(want.Type, is.Type) {
			d.Fixed = append(d.Fixed, fmt.Sprintf("column %s: want type %s, is %s", want.Name, want.Type, is.Type))
		}
		if (want.NotNull || slices.Contains(t.PrimaryKey, want.Name) || isSerial(want.Type)) != is.NotNull {
			d.Fixed = append(d.Fixed, fmt.Sprintf("column %s: want not null %t, is %t", want.Name, want.NotNull, is.NotNull))
		}
		if !isSerial(want.Type) && canonicalDefault(want.Default) != canonicalDefault(is.Default) {
			d.Fixed = append(d.Fixed, fmt.Sprintf("column %s: want default %q, is %q", want.Name, want.Default, is.Default))
		}
	}
	if !slices.Equal(t.PrimaryKey, got.PrimaryKey) {
		d.Fixed = append(d.Fixed, fmt.Sprintf("primary key: want %v, is %v", t.PrimaryKey, got.PrimaryKey))
	}
	d.Comment = t.Comment != got.Comment
	return d
}

// aliases maps other names of types to the server's names.
var aliases = map[string]string{
	"int": "integer", "int4": "integer", "int8": "bigint", "int2": "smallint", "serial": "integer", "serial4": "integer",
	"bigserial": "bigint", "serial8": "bigint", "smallserial": "smallint", "serial2": "smallint",
	"float": "double precision", "float8": "double precision", "float4": "real", "decimal": "numeric",
	"bool": "boolean", "varchar": "character varying", "char": "character", "bpchar": "character", "varbit": "bit varying",
	"timestamptz": "timestamp with time zone", "timestamp": "timestamp without time zone",
	"timetz": "time with time zone", "time": "time without time zone",
}

var typeName = regexp.MustCompile(`^[a-z0-9_]+`)

// SameType reports whether two types are equal, ignoring spacing and aliases.
func SameType(a, b string) bool { return canonicalType(a) == canonicalType(b) }

func canonicalType(text string) string {
	text = strings.ToLower(sqltext.Normalize(text))
	name := typeName.FindString(text)
	rest := text[len(name):]
	full, ok := aliases[name]
	if !ok || strings.HasPrefix(strings.TrimSpace(rest), "with") || strings.Contains(rest, ")with") {
		return strings.ReplaceAll(name+rest, ") with", ")with")
	}
	// The zone follows the precision: timestamp(3) with time zone.
	if first, zone, found := strings.Cut(full, " with"); found && strings.HasPrefix(rest, "(") {
		return first + rest + "with" + zone
	}
	return full + rest
}

func isSerial(text string) bool {
	return slices.Contains([]string{"serial", "bigserial", "smallserial", "serial2", "serial4", "serial8"}, strings.ToLower(strings.TrimSpace(text)))
}

var cast = regexp.MustCompile(`::[a-z_ ]+(\([0-9,]+\))?(with(out)? time zone)?(\[\])*$`)

func canonicalDefault(text string) string {
	text = sqltext.Normalize(text)
	text = cast.ReplaceAllString(text, "")
	switch strings.ToLower(text) {
	case "current_timestamp", "now()":
		return "now()"
	case "null":
		return ""
	}
	return text
}
