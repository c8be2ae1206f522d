// SPDX-License-Identifier: Apache-2.0

package clickhouse

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/internal/sqltext"
)

// Fake is an in-memory server. It embeds backend.Faults: Fail makes a method fail, Calls counts. Safe for
// concurrent use.
type Fake struct {
	backend.Faults

	// Version is returned by Ping.
	Version string

	mu        sync.Mutex
	databases map[string]map[string]Table
}

var _ Admin = (*Fake)(nil)

// NewFake returns a server with the database "default".
func NewFake() *Fake {
	return &Fake{Version: "26.7.2.1", databases: map[string]map[string]Table{"default": {}}}
}

// Ping implements Admin.
func (f *Fake) Ping(ctx context.Context) (string, error) {
	if err := f.Enter(ctx, "Ping"); err != nil {
		return "", err
	}
	return f.Version, nil
}

// EnsureDatabase implements Admin.
func (f *Fake) EnsureDatabase(ctx context.Context, database string) error {
	if err := f.Enter(ctx, "EnsureDatabase"); err != nil {
		return err
	}
	if err := sqltext.Identifier("database", database, 0); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.databases[database] == nil {
		f.databases[database] = map[string]Table{}
	}
	return nil
}

// Table implements Admin.
func (f *Fake) Table(ctx context.Context, database, name string) (Table, error) {
	if err := f.Enter(ctx, "Table"); err != nil {
		return Table{}, err
	}
	if err := validName(database, name); err != nil {
		return Table{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.get(database, name)
}

func (f *Fake) get(database, name string) (Table, error) {
	table, ok := f.databases[database][name]
	if !ok {
		return Table{}, fmt.Errorf("clickhouse: table %s.%s: %w", database, name, backend.ErrNotFound)
	}
	table.Columns = slices.Clone(table.Columns)
	return table, nil
}

// CreateTable implements Admin.
func (f *Fake) CreateTable(ctx context.Context, table Table) error {
	if err := f.Enter(ctx, "CreateTable"); err != nil {
		return err
	}
	if err := table.validate(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	database, ok := f.databases[table.Database]
	if !ok {
		return fmt.Errorf("clickhouse: database %s: %w", table.Database, backend.ErrNotFound)
	}
	if _, ok := database[table.Name]; ok {
		return fmt.Errorf("clickhouse: create table %s.%s: %w", table.Database, table.Name, backend.ErrExists)
	}
	if err := knownTypes(table.Columns...); err != nil {
		return err
	}
	table.Engine = table.engine()
	table.Columns = slices.Clone(table.Columns)
	database[table.Name] = table
	return nil
}

// change applies a change to a table.
func (f *Fake) change(ctx context.Context, method, database, name string, apply func(*Table) error) error {
	if err := f.Enter(ctx, method); err != nil {
		return err
	}
	if err := validName(database, name); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	table, err := f.get(database, name)
	if err != nil {
		return err
	}
	if err := apply(&table); err != nil {
		return err
	}
	f.databases[database][name] = table
	return nil
}

// AddColumns implements Admin.
func (f *Fake) AddColumns(ctx context.Context, database, table string, columns []Column) error {
	return f.change(ctx, "AddColumns", database, table, func(t *Table) error {
		if err := knownTypes(columns...); err != nil {
			return err
		}
		for _, column := range columns {
			if err := column.validate(); err != nil {
				return err
			}
			if !slices.ContainsFunc(t.Columns, func(c Column) bool { return c.Name == column.Name }) {
				t.Columns = append(t.Columns, column)
			}
		}
		return nil
	})
}

// ModifyColumn implements Admin.
func (f *Fake) ModifyColumn(ctx context.Context, database, table string, column Column) error {
	return f.change(ctx, "ModifyColumn", database, table, func(t *Table) error {
		if err := column.validate(); err != nil {
			return err
		}
		if err := knownTypes(column); err != nil {
			return err
		}
		i := slices.IndexFunc(t.Columns, func(c Column) bool { return c.Name == column.Name })
		if i < 0 {
			return fmt.Errorf("clickhouse: column %s: %w", column.Name, backend.ErrNotFound)
		}
		t.Columns[i] = column
		return nil
	})
}

// ModifyTTL implements Admin.
func (f *Fake) ModifyTTL(ctx context.Context, database, table, ttl string) error {
	return f.change(ctx, "ModifyTTL", database, table, func(t *Table) error {
		t.TTL = ttl
		return sqltext.Expression("ttl", ttl, true, clause...)
	})
}

// SetComment implements Admin.
func (f *Fake) SetComment(ctx context.Context, database, table, comment string) error {
	return f.change(ctx, "SetComment", database, table, func(t *Table) error {
		t.Comment = comment
		return nil
	})
}

// DropTable implements Admin.
func (f *Fake) DropTable(ctx context.Context, database, name string) error {
	return f.drop(ctx, database, name)
}

func (f *Fake) drop(ctx context.Context, database, name string) error {
	if err := f.change(ctx, "DropTable", database, name, func(*Table) error { return nil }); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.databases[database], name)
	return nil
}

// Close implements Admin.
func (f *Fake) Close() error { return f.Enter(context.Background(), "Close") }

// families are the type families of a server.
var families = strings.Fields(`Int8 Int16 Int32 Int64 Int128 Int256 UInt8 UInt16 UInt32 UInt64 UInt128 UInt256
	Float32 Float64 BFloat16 Decimal Decimal32 Decimal64 Decimal128 Decimal256 String FixedString Bool UUID IPv4 IPv6
	Date Date32 DateTime DateTime64 Time Time64 Enum Enum8 Enum16 Array Tuple Map Nested Nullable LowCardinality
	Variant Dynamic JSON AggregateFunction SimpleAggregateFunction Point Ring Polygon MultiPolygon Nothing`)

func knownTypes(columns ...Column) error {
	for _, column := range columns {
		family, _, _ := strings.Cut(canonicalType(column.Type), "(")
		if !slices.Contains(families, family) {
			return fmt.Errorf("clickhouse: column %s: unknown type %s: %w", column.Name, family, backend.ErrInvalid)
		}
	}
	return nil
}
