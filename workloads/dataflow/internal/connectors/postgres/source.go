// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/itechsmart/operator/internal/backend"
	pg "github.com/itechsmart/operator/internal/backend/postgres"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connector"
	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

// SourceConfig of the source.
type SourceConfig struct {
	Schema       string   `json:"schema,omitempty" jsonschema:"default=public,pattern=^[A-Za-z_][A-Za-z0-9_]*$,maxLength=63,description=The table's schema."`
	Table        string   `json:"table" jsonschema:"required,pattern=^[A-Za-z_][A-Za-z0-9_]*$,maxLength=63,description=The table or view to read; one JSON object per row."`
	Columns      []string `json:"columns,omitempty" jsonschema:"description=Columns to read; all when not given."`
	Where        string   `json:"where,omitempty" jsonschema:"description=A condition in SQL that the rows must meet."`
	CursorColumn string   `json:"cursorColumn" jsonschema:"required,minLength=1,maxLength=63,description=A column that only grows for new rows and is never null: a serial number or a time of insertion. An index on it keeps reading cheap. Rows that become visible behind the cursor are not seen."`
	TieBreaker   string   `json:"tieBreaker,omitempty" jsonschema:"maxLength=63,description=A column that distinguishes rows with the same cursor; needed when cursorColumn has no unique index."`
	Start        *string  `json:"start,omitempty" jsonschema:"description=Start after this value of the cursor; at the table's first row when not given."`
	BatchSize    int      `json:"batchSize,omitempty" jsonschema:"minimum=0,maximum=100000,default=0,description=Rows per query; 0 means the pipeline's batching.count."`

	Watch         *bool           `json:"watch,omitempty" jsonschema:"default=true,description=Continue with rows that are added later; otherwise the source finishes after the last row."`
	Interval      config.Duration `json:"interval,omitempty" jsonschema:"default=1s,description=How often to look for new rows when watching."`
	Offsets       string          `json:"offsets,omitempty" jsonschema:"default=Database,enum=Database,enum=None,description=Where the position is stored: in the table itechsmart_pipeline_offsets of that database; or nowhere (for a read-only database) so that each start reads from the beginning."`
	OffsetsSchema string          `json:"offsetsSchema,omitempty" jsonschema:"default=public,pattern=^[A-Za-z_][A-Za-z0-9_]*$,maxLength=63,description=The schema of the table of offsets."`
}

// Source describes the connector.
func Source() connector.Spec {
	return connector.SourceOf(connector.Spec{
		Type:    "postgres",
		Summary: "Reads the rows of a PostgreSQL table in the order of an increasing column, once or watching for more.",
		Binding: "postgresql",
	}, openSource)
}

// place is the cursor after which reading continues; the values are in PostgreSQL's text form.
type place struct {
	Cursor string `json:"cursor"`
	Tie    string `json:"tie,omitempty"`
}

type source struct {
	cfg     SourceConfig
	binding backend.Binding
	pool    *pgxpool.Pool
	watch   bool
	batch   int
	key     string // under which the position is stored
	offsets string // table, quoted; "" for none

	cursorType, tieType string
	next                *place // nil: from the beginning
	idle                bool   // the last query returned no row
}

func openSource(ctx context.Context, cfg SourceConfig, env connector.Env) (connector.Source, error) {
	s := &source{cfg: cfg, binding: env.Binding, watch: cfg.Watch == nil || *cfg.Watch, batch: cfg.BatchSize, key: env.Group + "/" + env.Component}
	s.applyDefaults(env)
	config, err := pg.Config(env.Binding)
	if err != nil {
		return nil, err
	}
	config.MaxConns = 3 // Read, Ack and Lag run in goroutines of their own
	if s.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, failure(s.binding, "connect", err)
	}
	if err := s.prepare(ctx); err != nil {
		s.pool.Close()
		return nil, err
	}
	return s, nil
}

func (s *source) applyDefaults(env connector.Env) {
	if s.cfg.Schema == "" {
		s.cfg.Schema = "public"
	}
	if s.batch <= 0 {
		s.batch = env.Batching.Count
	}
	if s.batch <= 0 {
		s.batch = 1000
	}
	if s.cfg.Interval <= 0 {
		s.cfg.Interval = config.Duration(time.Second)
	}
	if s.cfg.Offsets != "None" {
		if s.cfg.OffsetsSchema == "" {
			s.cfg.OffsetsSchema = "public"
		}
		s.offsets = pg.Quote(s.cfg.OffsetsSchema, "itechsmart_pipeline_offsets")
	}
}

func (s *source) prepare(ctx context.Context) error {
	if err := s.describe(ctx); err != nil {
		return err
	}
	if s.cfg.Start != nil {
		s.next = &place{Cursor: *s.cfg.Start}
	}
	if s.offsets == "" {
		return s.try(ctx)
	}
	create := "CREATE TABLE IF NOT EXISTS " + s.offsets + " (source text PRIMARY KEY, place jsonb NOT NULL, updated timestamptz NOT NULL DEFAULT now())"
	// Two workers that start together may both try: an error of the second means that the table exists.
	_, createErr := s.pool.Exec(ctx, create)
	var stored []byte
	err := s.pool.QueryRow(ctx, "SELECT place FROM "+s.offsets+" WHERE source = $1", s.key).Scan(&stored)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
	case err != nil && createErr != nil:
		return failure(s.binding, "create the table of offsets (or set config.offsets to None)", createErr)
	case err != nil:
		return failure(s.binding, "load the position", err)
	default:
		s.next = &place{}
		if err := json.Unmarshal(stored, s.next); err != nil {
			return fmt.Errorf("load the position: %w: %w", err, backend.ErrInvalid)
		}
	}
	return s.try(ctx)
}

const cursorQuery = `SELECT a.attname, format_type(a.atttypid, a.atttypmod),
EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisunique AND i.indpred IS NULL AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum)
FROM pg_attribute a WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped`

// describe looks up the cursor's type and how rows with an equal cursor are distinguished.
func (s *source) describe(ctx context.Context) error {
	op := fmt.Sprintf("look up table %s.%s", s.cfg.Schema, s.cfg.Table)
	rows, err := s.pool.Query(ctx, cursorQuery, s.table())
	if err != nil {
		return failure(s.binding, op, err)
	}
	kinds, unique := map[string]string{}, map[string]bool{}
	var name, kind string
	var single bool
	if _, err = pgx.ForEachRow(rows, []any{&name, &kind, &single}, func() error {
		kinds[name], unique[name] = kind, single
		return nil
	}); err != nil {
		return failure(s.binding, op, err)
	}
	if len(kinds) == 0 {
		return s.binding.Error(op, backend.ErrNotFound, errors.New("no such table, or no privilege to see it"))
	}
	for field, names := range map[string][]string{"cursorColumn": {s.cfg.CursorColumn}, "tieBreaker": {s.cfg.TieBreaker}, "columns": s.cfg.Columns} {
		for _, name := range names {
			if _, ok := kinds[name]; !ok && name != "" {
				return fmt.Errorf("config.%s: table has no column %q: %w", field, name, backend.ErrInvalid)
			}
		}
	}
	if s.cfg.TieBreaker == "" && !unique[s.cfg.CursorColumn] {
		return fmt.Errorf("config.tieBreaker: needed because column %q has no unique index: %w", s.cfg.CursorColumn, backend.ErrInvalid)
	}
	s.cursorType, s.tieType = kinds[s.cfg.CursorColumn], kinds[s.cfg.TieBreaker]
	return nil
}

func (s *source) table() string { return pg.Quote(s.cfg.Schema, s.cfg.Table) }

// condition selects the rows after the position; its values are parameters, not part of the text.
func (s *source) condition(at *place) (string, []any) {
	var parts []string
	var values []any
	if s.cfg.Where != "" {
		parts = append(parts, "("+s.cfg.Where+"\n)")
	}
	cursor := pg.Quote(s.cfg.CursorColumn)
	switch {
	case at == nil:
	case s.cfg.TieBreaker != "" && at.Tie != "":
		parts = append(parts, fmt.Sprintf("(%s, %s) > ($1::text::%s, $2::text::%s)", cursor, pg.Quote(s.cfg.TieBreaker), s.cursorType, s.tieType))
		values = []any{at.Cursor, at.Tie}
	default:
		parts = append(parts, fmt.Sprintf("%s > $1::text::%s", cursor, s.cursorType))
		values = []any{at.Cursor}
	}
	if len(parts) == 0 {
		return "", nil
	}
	return " WHERE " + strings.Join(parts, " AND "), values
}

// query selects rows as JSON, each with its cursor.
func (s *source) query(limit int) (string, []any) {
	columns := "t.*"
	if len(s.cfg.Columns) > 0 {
		quoted := make([]string, len(s.cfg.Columns))
		for i, name := range s.cfg.Columns {
			quoted[i] = "t." + pg.Quote(name)
		}
		columns = strings.Join(quoted, ", ")
	}
	cursor := pg.Quote(s.cfg.CursorColumn)
	tie, inner, outer := "''", cursor, "t."+cursor
	if s.cfg.TieBreaker != "" {
		column := pg.Quote(s.cfg.TieBreaker)
		tie, inner, outer = "t."+column+"::text", inner+", "+column, outer+", t."+column
	}
	where, values := s.condition(s.next)
	// In the outer query columns are qualified with their table: a bare name would sort by the text next to it.
	return fmt.Sprintf("SELECT (SELECT row_to_json(itechsmart_row)::text FROM (SELECT %s) itechsmart_row), t.%s::text, %s FROM (SELECT * FROM %s%s ORDER BY %s LIMIT %d) t ORDER BY %s",
		columns, cursor, tie, s.table(), where, inner, limit, outer), values
}

// readOnly runs f in a read-only transaction, so that no condition of a user can change anything.
func (s *source) readOnly(ctx context.Context, f func(pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, f)
}

// try runs the query without reading a row, to name an error in where or start.
func (s *source) try(ctx context.Context) error {
	err := s.readOnly(ctx, func(tx pgx.Tx) error {
		text, values := s.query(0)
		_, err := tx.Exec(ctx, text, values...)
		return err
	})
	var answer *pgconn.PgError
	if errors.As(err, &answer) && (strings.HasPrefix(answer.Code, "42") || strings.HasPrefix(answer.Code, "22")) && answer.Code != "42501" {
		return s.binding.Error("config.where or config.start", backend.ErrInvalid, errors.New(describe(answer)))
	}
	return failure(s.binding, "query", err)
}

// Read runs one query; if it returns nothing, Read waits and tries again.
func (s *source) Read(ctx context.Context) (*record.Batch, error) {
	for {
		if s.idle {
			if !s.watch {
				return nil, connector.ErrFinished
			}
			timer := time.NewTimer(time.Duration(s.cfg.Interval))
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				return nil, ctx.Err()
			}
		}
		batch, err := s.fetch(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, failure(s.binding, fmt.Sprintf("read %s.%s", s.cfg.Schema, s.cfg.Table), err)
		}
		// A short result means that the end is near, but rows may have been added meanwhile.
		if s.idle = batch.Len() == 0; !s.idle {
			at := batch.Position.(place)
			s.next = &at
			return batch, nil
		}
	}
}

func (s *source) fetch(ctx context.Context) (*record.Batch, error) {
	batch := &record.Batch{Records: make([]record.Record, 0, s.batch)}
	now := time.Now().UTC()
	err := s.readOnly(ctx, func(tx pgx.Tx) error {
		text, values := s.query(s.batch)
		rows, err := tx.Query(ctx, text, values...)
		if err != nil {
			return err
		}
		var value []byte
		var at place
		_, err = pgx.ForEachRow(rows, []any{&value, &at.Cursor, &at.Tie}, func() error {
			r := record.New(value)
			r.Time, r.Origin = now, s.cfg.Table+"@"+at.Cursor
			if at.Tie != "" {
				r.Origin += "/" + at.Tie
			}
			batch.Records = append(batch.Records, r)
			batch.Position = at
			value = nil // the record owns it
			return nil
		})
		return err
	})
	return batch, err
}

// Ack stores the last batch's position.
func (s *source) Ack(ctx context.Context, batches []*record.Batch) error {
	if s.offsets == "" || len(batches) == 0 {
		return nil
	}
	at, ok := batches[len(batches)-1].Position.(place)
	if !ok {
		return fmt.Errorf("batch does not belong to this source: %w", backend.ErrInvalid)
	}
	data, err := json.Marshal(at)
	if err != nil {
		return fmt.Errorf("store the position: %w", err)
	}
	_, err = s.pool.Exec(ctx, "INSERT INTO "+s.offsets+" AS o (source, place) VALUES ($1, $2) ON CONFLICT (source) DO UPDATE SET place = EXCLUDED.place, updated = now()", s.key, string(data))
	return failure(s.binding, "store the position", err)
}

// maxLag limits what Lag counts, because counting costs as much as reading.
const maxLag = 100_000

// Lag counts the rows after the stored position, up to maxLag.
func (s *source) Lag(ctx context.Context) (int64, error) {
	var stored []byte
	var at *place
	if s.offsets != "" {
		err := s.pool.QueryRow(ctx, "SELECT place FROM "+s.offsets+" WHERE source = $1", s.key).Scan(&stored)
		if err == nil {
			at = &place{}
			err = json.Unmarshal(stored, at)
		}
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return 0, failure(s.binding, "measure the lag", err)
		}
	}
	if at == nil && s.cfg.Start != nil {
		at = &place{Cursor: *s.cfg.Start}
	}
	where, values := s.condition(at)
	var count int64
	err := s.readOnly(ctx, func(tx pgx.Tx) error {
		text := fmt.Sprintf("SELECT count(*) FROM (SELECT FROM %s%s LIMIT %d) t", s.table(), where, maxLag)
		return tx.QueryRow(ctx, text, values...).Scan(&count)
	})
	return count, failure(s.binding, "measure the lag", err)
}

// Close ends the connections.
func (s *source) Close(context.Context) error {
	s.pool.Close()
	return nil
}
