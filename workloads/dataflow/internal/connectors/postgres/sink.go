// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/itechsmart/operator/internal/backend"
	pg "github.com/itechsmart/operator/internal/backend/postgres"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connector"
	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
)

// SinkConfig of the sink. The controller creates and evolves the table by Create, Columns and PrimaryKey; the
// worker does not change the table.
type SinkConfig struct {
	Schema string `json:"schema,omitempty" jsonschema:"default=public,pattern=^[A-Za-z_][A-Za-z0-9_]*$,maxLength=63,description=The table's schema."`
	Table  string `json:"table" jsonschema:"required,pattern=^[A-Za-z_][A-Za-z0-9_]*$,maxLength=63,description=The table that gets one row per record."`

	Create     bool     `json:"create,omitempty" jsonschema:"default=false,description=Create the table from columns when it does not exist and add new columns."`
	Columns    []Column `json:"columns,omitempty" jsonschema:"description=Columns of a table that is created."`
	PrimaryKey []string `json:"primaryKey,omitempty" jsonschema:"description=Primary key of a table that is created."`

	ConflictKeys  []string `json:"conflictKeys,omitempty" jsonschema:"description=Columns with a unique index that identify an existing row; for onConflict Update."`
	OnConflict    string   `json:"onConflict,omitempty" jsonschema:"enum=Fail,enum=Ignore,enum=Update,description=What to do with a record whose row exists: refuse it; keep the row as it is; or update the row's columns that the record has. Update when conflictKeys are given and Fail otherwise."`
	UnknownFields string   `json:"unknownFields,omitempty" jsonschema:"default=Ignore,enum=Ignore,enum=Fail,description=What to do with a record's fields that are not columns."`
}

// Column of a table that is created.
type Column struct {
	Name    string `json:"name" jsonschema:"required,pattern=^[A-Za-z_][A-Za-z0-9_]*$,maxLength=63,description=Name of the column and of the record's field."`
	Type    string `json:"type" jsonschema:"required,minLength=1,description=PostgreSQL type such as bigint or jsonb or timestamptz."`
	NotNull bool   `json:"notNull,omitempty" jsonschema:"default=false,description=Refuse nulls."`
	Default string `json:"default,omitempty" jsonschema:"description=Default expression."`
}

// Sink describes the connector.
func Sink() connector.Spec {
	return connector.SinkOf(connector.Spec{
		Type:    "postgres",
		Summary: "Writes each batch of JSON objects into a PostgreSQL table in one transaction by COPY, or upserts by conflict keys.",
		Binding: "postgresql",
	}, openSink)
}

type sink struct {
	cfg     SinkConfig
	binding backend.Binding
	pool    *pgxpool.Pool
	table   string // quoted
	columns []column
	encoder *encoder
}

// column is one of the table's writable columns.
type column struct {
	name  string
	kind  string // in the form of format_type
	array bool
	json  bool
}

// stage is the temporary table of an upsert; order is its extra column.
const (
	stage = "itechsmart_stage"
	order = "itechsmart_order"
)

func openSink(ctx context.Context, cfg SinkConfig, env connector.Env) (connector.Sink, error) {
	if cfg.Schema == "" {
		cfg.Schema = "public"
	}
	if cfg.OnConflict == "" {
		cfg.OnConflict = "Fail"
		if len(cfg.ConflictKeys) > 0 {
			cfg.OnConflict = "Update"
		}
	}
	if cfg.OnConflict == "Update" && len(cfg.ConflictKeys) == 0 {
		return nil, fmt.Errorf("config.conflictKeys: needed for onConflict Update: %w", backend.ErrInvalid)
	}
	pool, err := onePool(ctx, env.Binding)
	if err != nil {
		return nil, err
	}
	s := &sink{cfg: cfg, binding: env.Binding, pool: pool, table: pg.Quote(cfg.Schema, cfg.Table)}
	if err := s.describe(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	return s, nil
}

// onePool returns a pool of one connection, which reconnects when it breaks.
func onePool(ctx context.Context, b backend.Binding) (*pgxpool.Pool, error) {
	config, err := pg.Config(b)
	if err != nil {
		return nil, err
	}
	config.MaxConns = 1
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, failure(b, "connect", err)
	}
	return pool, nil
}

const columnsQuery = `SELECT a.attname, format_type(a.atttypid, a.atttypmod), t.typcategory = 'A', t.typname IN ('json', 'jsonb')
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' AND a.attidentity <> 'a'
ORDER BY a.attnum`

// describe reads the table's columns.
func (s *sink) describe(ctx context.Context) error {
	op := fmt.Sprintf("look up table %s.%s", s.cfg.Schema, s.cfg.Table)
	rows, err := s.pool.Query(ctx, columnsQuery, s.table)
	if err != nil {
		return failure(s.binding, op, err)
	}
	s.columns, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (c column, err error) {
		err = row.Scan(&c.name, &c.kind, &c.array, &c.json)
		return c, err
	})
	if err != nil {
		return failure(s.binding, op, err)
	}
	if len(s.columns) == 0 {
		return s.binding.Error(op, backend.ErrNotFound, errors.New("create it, or set config.create to true with config.columns"))
	}
	s.encoder = newEncoder(s.columns, s.cfg.UnknownFields == "Fail")
	for _, key := range s.cfg.ConflictKeys {
		if _, ok := s.encoder.index[key]; !ok {
			return fmt.Errorf("config.conflictKeys: table has no column %q: %w", key, backend.ErrInvalid)
		}
	}
	return nil
}

// Write stores the batch in one transaction: all of it, or nothing.
func (s *sink) Write(ctx context.Context, batch *record.Batch) error {
	groups, refused := s.encoder.encode(batch, s.cfg.OnConflict == "Update")
	if len(groups) > 0 {
		err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			for i, group := range groups {
				if err := s.group(ctx, tx, group, i); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return s.failed(ctx, err)
		}
	}
	return refused.OrNil()
}

// failed classifies the error, and reads the columns again if they have changed.
func (s *sink) failed(ctx context.Context, err error) error {
	err = failure(s.binding, fmt.Sprintf("write to %s.%s", s.cfg.Schema, s.cfg.Table), err)
	if errors.Is(err, backend.ErrNotFound) && ctx.Err() == nil {
		if again := s.describe(ctx); again != nil {
			return again
		}
	}
	return err
}

// group writes records that have the same columns.
func (s *sink) group(ctx context.Context, tx pgx.Tx, g *group, number int) error {
	names := make([]string, len(g.columns))
	for i, at := range g.columns {
		names[i] = pg.Quote(s.columns[at].name)
	}
	list := strings.Join(names, ", ")
	if s.cfg.OnConflict == "Fail" {
		return s.copy(ctx, tx, s.table, list, g)
	}
	temporary := fmt.Sprintf("%s_%d", stage, number)
	// Only the columns in use, without the table's constraints: those are checked by the insert.
	create := fmt.Sprintf("CREATE TEMP TABLE %s ON COMMIT DROP AS SELECT %s FROM %s WITH NO DATA", temporary, list, s.table)
	addOrder := fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s bigserial", temporary, order)
	for _, statement := range []string{create, addOrder} {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return err
		}
	}
	if err := s.copy(ctx, tx, temporary, list, g); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, s.merge(temporary, list, names))
	return err
}

func (s *sink) copy(ctx context.Context, tx pgx.Tx, table, list string, g *group) error {
	statement := fmt.Sprintf("COPY %s (%s) FROM STDIN", table, list)
	_, err := tx.Conn().PgConn().CopyFrom(ctx, bytes.NewReader(g.data), statement)
	return err
}

// merge returns the insert from the temporary table. Of several records with one key the last one wins.
func (s *sink) merge(temporary, list string, names []string) string {
	if s.cfg.OnConflict == "Ignore" {
		return fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM %s ORDER BY %s ON CONFLICT DO NOTHING", s.table, list, list, temporary, order)
	}
	keys := make([]string, len(s.cfg.ConflictKeys))
	isKey := map[string]bool{}
	for i, key := range s.cfg.ConflictKeys {
		keys[i] = pg.Quote(key)
		isKey[keys[i]] = true
	}
	var updates []string
	for _, name := range names {
		if !isKey[name] {
			updates = append(updates, fmt.Sprintf("%s = EXCLUDED.%s", name, name))
		}
	}
	action := "DO NOTHING"
	if len(updates) > 0 {
		action = "DO UPDATE SET " + strings.Join(updates, ", ")
	}
	by := strings.Join(keys, ", ")
	return fmt.Sprintf("INSERT INTO %s (%s) SELECT DISTINCT ON (%s) %s FROM %s ORDER BY %s, %s DESC ON CONFLICT (%s) %s",
		s.table, list, by, list, temporary, by, order, by, action)
}

// Close ends the connection.
func (s *sink) Close(context.Context) error {
	s.pool.Close()
	return nil
}
