// SPDX-License-Identifier: Apache-2.0

// Package clickhouse administers ClickHouse: databases, tables and columns. It also opens the connections of
// connectors.
package clickhouse

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/internal/sqltext"
)

// Column is one column of a table.
type Column struct {
	Name string
	// Type as ClickHouse writes it, such as LowCardinality(String).
	Type string
	// Default is the expression of DEFAULT; empty means none. It may start with MATERIALIZED, ALIAS or
	// EPHEMERAL instead.
	Default string
}

// Table is a desired or an existing table.
type Table struct {
	Database, Name string
	Columns        []Column
	// Engine is a MergeTree of any kind, Memory or Null, with its arguments; MergeTree if empty.
	Engine string
	// OrderBy is the sorting key with or without brackets; "tuple()" for none.
	OrderBy string
	// PartitionBy and TTL are expressions; empty means none.
	PartitionBy, TTL string
	Comment          string
}

// Admin administers one server or cluster. Every method honours the context's deadline and wraps a sentinel of
// package backend; each may return ErrUnavailable, ErrAuth and, for an invalid name, type or expression,
// ErrInvalid.
type Admin interface {
	// Ping returns the server's version, such as "26.7.2".
	Ping(ctx context.Context) (version string, err error)
	// EnsureDatabase creates the database if it is missing.
	EnsureDatabase(ctx context.Context, database string) error
	// Table reads one table; ErrNotFound.
	Table(ctx context.Context, database, name string) (Table, error)
	// CreateTable: ErrExists; ErrNotFound if the database is missing.
	CreateTable(ctx context.Context, table Table) error
	// AddColumns adds the missing ones of the columns; ErrNotFound.
	AddColumns(ctx context.Context, database, table string, columns []Column) error
	// ModifyColumn changes a column's type and default; ErrNotFound.
	ModifyColumn(ctx context.Context, database, table string, column Column) error
	// ModifyTTL changes the table's TTL, or removes it if empty; ErrNotFound.
	ModifyTTL(ctx context.Context, database, table, ttl string) error
	// SetComment changes the table's comment; ErrNotFound.
	SetComment(ctx context.Context, database, table, comment string) error
	// DropTable drops the table with its data, at once; ErrNotFound.
	DropTable(ctx context.Context, database, name string) error
	// Close releases the connections.
	Close() error
}

// ValidIdentifier refuses anything outside [A-Za-z_][A-Za-z0-9_]*; ErrInvalid.
func ValidIdentifier(name string) error { return sqltext.Identifier("identifier", name, 0) }

// Quote quotes an identifier for SQL.
func Quote(identifier string) string {
	return "`" + strings.NewReplacer("\\", "\\\\", "`", "\\`").Replace(identifier) + "`"
}

// literal quotes a string for SQL.
func literal(text string) string {
	return "'" + strings.NewReplacer("\\", "\\\\", "'", "\\'").Replace(text) + "'"
}

var (
	// always lists what is always forbidden: queries, and functions that reach beyond the table's own rows.
	always = []string{
		"SELECT", "FILE(", "URL*(", "S3*(", "REMOTE*(", "DICT*(", "JOINGET*(", "GETSETTING*(",
		"CATBOOSTEVALUATE(", "EXECUTABLE(", "CLUSTER*(", "MYSQL(", "POSTGRESQL(", "HDFS*(", "AZURE*(", "SLEEP*(",
	}
	// clause also forbids what starts another clause, where no bracket encloses the text.
	clause = append([]string{
		"FROM", "UNION", "INTO", "FORMAT", "SETTINGS", "ENGINE", "COMMENT", "CODEC", "AS",
		"PARTITION", "ORDER", "PRIMARY", "SAMPLE", "ATTACH", "DROP", "ALTER", "CREATE", "ADD", "MODIFY", "REMOVE",
	}, always...)
	engineForm = regexp.MustCompile(`^((Replicated|Shared)?(Replacing|Summing|Aggregating|Collapsing|VersionedCollapsing|Coalescing)?MergeTree|Memory|Null)$`)
	typeForm   = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]*$`)
	kindForm   = regexp.MustCompile(`(?i)^(MATERIALIZED|ALIAS|EPHEMERAL)\b`)
)

// called reports whether text has the form Name or Name(arguments).
func called(form *regexp.Regexp, text string) bool {
	name, _, arguments := strings.Cut(text, "(")
	return form.MatchString(name) && (!arguments || wrapped(text[len(name):]))
}

// validName checks the two parts of a table's name.
func validName(database, table string) error {
	if err := sqltext.Identifier("database", database, 0); err != nil {
		return err
	}
	return sqltext.Identifier("table", table, 0)
}

func (c Column) validate() error {
	if err := sqltext.Identifier("column", c.Name, 0); err != nil {
		return err
	}
	if !called(typeForm, c.Type) {
		return fmt.Errorf("column %s: type %q is not Name or Name(arguments): %w", c.Name, c.Type, backend.ErrInvalid)
	}
	if err := sqltext.Expression("column "+c.Name+": type", c.Type, false, always...); err != nil {
		return err
	}
	_, expression := c.split()
	return sqltext.Expression("column "+c.Name+": default", expression, false, always...)
}

// split returns the default's kind (empty without a default) and expression.
func (c Column) split() (kind, expression string) {
	kind = kindForm.FindString(c.Default)
	expression = strings.TrimSpace(c.Default[len(kind):])
	if kind == "" && expression != "" {
		kind = "DEFAULT"
	}
	return strings.ToUpper(kind), expression
}

// sql returns the column's definition.
func (c Column) sql() string {
	text := Quote(c.Name) + " " + c.Type
	kind, expression := c.split()
	if kind != "" {
		text += " " + kind
	}
	if expression != "" {
		text += " (" + expression + ")"
	}
	return text
}

func (t Table) engine() string {
	if t.Engine == "" {
		return "MergeTree"
	}
	return t.Engine
}

// merges reports whether the engine has a sorting key.
func (t Table) merges() bool { return strings.Contains(t.engine(), "MergeTree") }

func (t Table) validate() error {
	if err := validName(t.Database, t.Name); err != nil {
		return err
	}
	if len(t.Columns) == 0 {
		return fmt.Errorf("table %s has no columns: %w", t.Name, backend.ErrInvalid)
	}
	seen := map[string]bool{}
	for _, column := range t.Columns {
		if err := column.validate(); err != nil {
			return err
		}
		if seen[column.Name] {
			return fmt.Errorf("column %s is listed twice: %w", column.Name, backend.ErrInvalid)
		}
		seen[column.Name] = true
	}
	if !called(engineForm, t.engine()) {
		return fmt.Errorf("engine %q is not a kind of MergeTree, Memory or Null: %w", t.Engine, backend.ErrInvalid)
	}
	if t.merges() && t.OrderBy == "" {
		return fmt.Errorf("order by is empty; \"tuple()\" means no order: %w", backend.ErrInvalid)
	}
	for _, part := range []struct {
		what, text string
		forbidden  []string
	}{
		{"engine", t.engine(), always}, {"order by", t.OrderBy, always},
		{"partition by", t.PartitionBy, always}, {"ttl", t.TTL, clause},
	} {
		if err := sqltext.Expression(part.what, part.text, true, part.forbidden...); err != nil {
			return err
		}
		if part.text != "" && part.what != "engine" && !t.merges() {
			return fmt.Errorf("engine %s takes no %s: %w", t.engine(), part.what, backend.ErrInvalid)
		}
	}
	return nil
}

// deduplicationWindow is how many of the last batches are remembered: more than writers can have in flight.
const deduplicationWindow = 1000

// create returns the CREATE TABLE statement; onCluster is empty or the clause.
func (t Table) create(onCluster string) string {
	columns := make([]string, len(t.Columns))
	for i, column := range t.Columns {
		columns[i] = column.sql()
	}
	var sql strings.Builder
	fmt.Fprintf(&sql, "CREATE TABLE %s.%s%s (%s) ENGINE = %s",
		Quote(t.Database), Quote(t.Name), onCluster, strings.Join(columns, ", "), t.engine())
	if t.PartitionBy != "" {
		fmt.Fprintf(&sql, " PARTITION BY (%s)", t.PartitionBy)
	}
	if t.OrderBy != "" {
		fmt.Fprintf(&sql, " ORDER BY (%s)", t.OrderBy)
	}
	if t.TTL != "" {
		sql.WriteString(" TTL " + t.TTL)
	}
	if t.merges() && !strings.HasPrefix(t.engine(), "Replicated") {
		// Replicated tables drop a batch that is inserted again under the same token; this makes others do so
		// too.
		fmt.Fprintf(&sql, " SETTINGS non_replicated_deduplication_window = %d", deduplicationWindow)
	}
	if t.Comment != "" {
		sql.WriteString(" COMMENT " + literal(t.Comment))
	}
	return sql.String()
}
