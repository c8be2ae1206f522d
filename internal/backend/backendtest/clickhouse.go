// SPDX-License-Identifier: Apache-2.0

package backendtest

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/clickhouse"
)

// ClickHouse runs the suite of clickhouse.Admin.
func ClickHouse(t *testing.T, open func(testing.TB) clickhouse.Admin) {
	s := clickhouseSuite{admin: open(t), database: Name("db")}
	t.Cleanup(func() { Must(t, s.admin.Close()) })
	t.Run("Ping", s.ping)
	t.Run("Database", s.ensure)
	for name, test := range map[string]func(*testing.T){
		"Lifecycle": s.lifecycle, "Engines": s.engines, "Columns": s.columns, "Modify": s.modify, "Settings": s.settings,
		"Missing": s.missing, "Invalid": s.invalid,
	} {
		t.Run(name, test)
	}
}

type clickhouseSuite struct {
	admin    clickhouse.Admin
	database string
}

// table returns a table that uses every feature.
func (s clickhouseSuite) table() clickhouse.Table {
	return clickhouse.Table{
		Database: s.database, Name: Name("events"),
		Columns: []clickhouse.Column{
			{Name: "id", Type: "bigint"},
			{Name: "time", Type: "DateTime64( 3,'UTC' )", Default: "now64(3)"},
			{Name: "level", Type: "LowCardinality( String )", Default: "'info'"},
			{Name: "tags", Type: "Map(String,Array(Nullable(UInt8)))"},
			{Name: "kind", Type: "Enum8('a'=1,'b;c' = 2)"},
			{Name: "upper", Type: "String", Default: "materialized upper(level)"},
			{Name: "url", Type: "String"},
		},
		Engine: "ReplacingMergeTree(time)", OrderBy: "(id,url)", PartitionBy: "toYYYYMM(time)",
		TTL: "toDateTime(time) + INTERVAL 30 DAY", Comment: `it's a "test" \ 100%`,
	}
}

// create creates the table and drops it after the test.
func (s clickhouseSuite) create(t *testing.T, table clickhouse.Table) {
	t.Helper()
	Must(t, s.admin.CreateTable(Context(t), table))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		if err := s.admin.DropTable(ctx, table.Database, table.Name); err != nil && !errors.Is(err, backend.ErrNotFound) {
			t.Error(err)
		}
	})
}

func (s clickhouseSuite) wantTable(t *testing.T, want clickhouse.Table) clickhouse.Table {
	t.Helper()
	got, err := s.admin.Table(Context(t), want.Database, want.Name)
	Must(t, err)
	if drift := want.Drift(got); !drift.None() {
		t.Errorf("drift %+v\ngot  %+v\nwant %+v", drift, got, want)
	}
	return got
}

func (s clickhouseSuite) ping(t *testing.T) {
	version, err := s.admin.Ping(Context(t))
	Must(t, err)
	if strings.Count(version, ".") < 2 {
		t.Errorf("version %q, want three numbers", version)
	}
	Ended(t, func(ctx context.Context) error { _, err := s.admin.Ping(ctx); return err })
}

func (s clickhouseSuite) ensure(t *testing.T) {
	ctx := Context(t)
	WantIs(t, s.admin.CreateTable(ctx, s.table()), backend.ErrNotFound)
	Must(t, s.admin.EnsureDatabase(ctx, s.database))
	Must(t, s.admin.EnsureDatabase(ctx, s.database))
}

func (s clickhouseSuite) lifecycle(t *testing.T) {
	ctx, want := Context(t), s.table()
	s.create(t, want)
	got := s.wantTable(t, want)
	if len(got.Columns) != len(want.Columns) || got.Columns[1].Name != "time" {
		t.Errorf("columns %v", got.Columns)
	}
	WantIs(t, s.admin.CreateTable(ctx, want), backend.ErrExists)
	Must(t, s.admin.DropTable(ctx, want.Database, want.Name))
	_, err := s.admin.Table(ctx, want.Database, want.Name)
	WantIs(t, err, backend.ErrNotFound)
	s.create(t, want) // the name is available again
}

func (s clickhouseSuite) engines(t *testing.T) {
	column := []clickhouse.Column{{Name: "id", Type: "UInt64"}}
	for _, table := range []clickhouse.Table{
		{OrderBy: "id"}, {OrderBy: "tuple()"}, {Engine: "MergeTree()", OrderBy: "(id)"},
		{Engine: "Memory"}, {Engine: "Null"}, {Engine: "SummingMergeTree", OrderBy: "id"},
	} {
		table.Database, table.Name, table.Columns = s.database, Name("t"), column
		s.create(t, table)
		s.wantTable(t, table)
	}
}

func (s clickhouseSuite) columns(t *testing.T) {
	ctx, want := Context(t), s.table()
	s.create(t, want)
	added := []clickhouse.Column{{Name: "extra", Type: "Float64", Default: "1.5"}, {Name: "more", Type: "Array(String)"}}
	want.Columns = append(want.Columns, added...)
	got, err := s.admin.Table(ctx, want.Database, want.Name)
	Must(t, err)
	if drift := want.Drift(got); len(drift.Missing) != 2 {
		t.Errorf("drift %+v, want both columns as missing", drift)
	}
	Must(t, s.admin.AddColumns(ctx, want.Database, want.Name, added))
	Must(t, s.admin.AddColumns(ctx, want.Database, want.Name, added))
	Must(t, s.admin.AddColumns(ctx, want.Database, want.Name, nil))
	s.wantTable(t, want)
	bad := []clickhouse.Column{{Name: "bad", Type: "NoSuchType"}}
	WantIs(t, s.admin.AddColumns(ctx, want.Database, want.Name, bad), backend.ErrInvalid)
}

func (s clickhouseSuite) modify(t *testing.T) {
	ctx, want := Context(t), s.table()
	s.create(t, want)
	for _, change := range []clickhouse.Column{
		{Name: "level", Type: "String", Default: "'warn'"},
		{Name: "level", Type: "String"}, // removes the default
		{Name: "tags", Type: "Map(String, Array(Nullable(UInt16)))"},
	} {
		for i := range want.Columns {
			if want.Columns[i].Name == change.Name {
				want.Columns[i] = change
			}
		}
		got, err := s.admin.Table(ctx, want.Database, want.Name)
		Must(t, err)
		if drift := want.Drift(got); len(drift.Changed) != 1 || drift.Changed[0] != change {
			t.Errorf("drift %+v, want %v as changed", drift, change)
		}
		Must(t, s.admin.ModifyColumn(ctx, want.Database, want.Name, change))
		s.wantTable(t, want)
	}
	missing := clickhouse.Column{Name: "missing", Type: "String"}
	WantIs(t, s.admin.ModifyColumn(ctx, want.Database, want.Name, missing), backend.ErrNotFound)
}

func (s clickhouseSuite) settings(t *testing.T) {
	ctx, want := Context(t), s.table()
	s.create(t, want)
	for _, ttl := range []string{"toDateTime(time) + toIntervalDay(7)", "", "", "toDateTime(time) + interval 2 month"} {
		want.TTL = ttl
		Must(t, s.admin.ModifyTTL(ctx, want.Database, want.Name, ttl))
		s.wantTable(t, want)
	}
	for _, comment := range []string{"other", "", `'; DROP TABLE x -- \`} {
		want.Comment = comment
		Must(t, s.admin.SetComment(ctx, want.Database, want.Name, comment))
		s.wantTable(t, want)
	}
}

func (s clickhouseSuite) missing(t *testing.T) {
	ctx, name := Context(t), Name("missing")
	column := clickhouse.Column{Name: "c", Type: "String"}
	for method, call := range map[string]func(database string) error{
		"Table":        func(db string) error { _, err := s.admin.Table(ctx, db, name); return err },
		"AddColumns":   func(db string) error { return s.admin.AddColumns(ctx, db, name, []clickhouse.Column{column}) },
		"ModifyColumn": func(db string) error { return s.admin.ModifyColumn(ctx, db, name, column) },
		"ModifyTTL":    func(db string) error { return s.admin.ModifyTTL(ctx, db, name, "") },
		"SetComment":   func(db string) error { return s.admin.SetComment(ctx, db, name, "text") },
		"DropTable":    func(db string) error { return s.admin.DropTable(ctx, db, name) },
	} {
		for _, database := range []string{s.database, Name("missing")} {
			if err := call(database); !errors.Is(err, backend.ErrNotFound) {
				t.Errorf("%s in %s: got %v, want ErrNotFound", method, database, err)
			}
		}
	}
}

func (s clickhouseSuite) invalid(t *testing.T) {
	ctx := Context(t)
	for name, change := range map[string]func(*clickhouse.Table){
		"database":        func(t *clickhouse.Table) { t.Database = "a.b" },
		"name":            func(t *clickhouse.Table) { t.Name = "a`b" },
		"no columns":      func(t *clickhouse.Table) { t.Columns = nil },
		"column":          func(t *clickhouse.Table) { t.Columns[0].Name = "a b" },
		"column twice":    func(t *clickhouse.Table) { t.Columns[1].Name = t.Columns[0].Name },
		"type":            func(t *clickhouse.Table) { t.Columns[0].Type = "NoSuchType" },
		"type injected":   func(t *clickhouse.Table) { t.Columns[0].Type = "String(1) DEFAULT (2)" },
		"default":         func(t *clickhouse.Table) { t.Columns[0].Default = "1) , x String DEFAULT (2" },
		"default queries": func(t *clickhouse.Table) { t.Columns[0].Default = "(select 1)" },
		"default reads":   func(t *clickhouse.Table) { t.Columns[6].Default = "file('secret')" },
		"engine":          func(t *clickhouse.Table) { t.Engine = "URL('http://example.com')" },
		"engine injected": func(t *clickhouse.Table) { t.Engine = "MergeTree() ORDER BY (id)" },
		"no order":        func(t *clickhouse.Table) { t.OrderBy = "" },
		"order injected":  func(t *clickhouse.Table) { t.OrderBy = "id) SETTINGS x = (1" },
		"ttl injected":    func(t *clickhouse.Table) { t.TTL += " SETTINGS index_granularity = 1" },
		"memory order":    func(t *clickhouse.Table) { t.Engine = "Memory" },
	} {
		table := s.table()
		change(&table)
		if err := s.admin.CreateTable(ctx, table); !errors.Is(err, backend.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
	WantIs(t, s.admin.EnsureDatabase(ctx, "a-b"), backend.ErrInvalid)
}
