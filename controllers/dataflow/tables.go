// SPDX-License-Identifier: Apache-2.0

package dataflow

import (
	"cmp"
	"context"
	"io"
	"reflect"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	dataflowv1alpha1 "github.com/itechsmart/operator/api/dataflow/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/external"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/validation"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/clickhouse"
)

// tableShape is a table as a clickhouse component specifies it.
type tableShape struct {
	clickhouse.Table
	create bool
}

func (s *tableShape) declared() bool { return s.create }

func (s *tableShape) same(other shape) bool {
	o, ok := other.(*tableShape)
	return ok && reflect.DeepEqual(s.Table, o.Table)
}

func readTable(c component) ([]declaration, field.ErrorList) {
	var cfg struct {
		Database    string              `json:"database"`
		Table       string              `json:"table"`
		Create      bool                `json:"create"`
		Columns     []clickhouse.Column `json:"columns"`
		OrderBy     []string            `json:"orderBy"`
		PartitionBy string              `json:"partitionBy"`
		TTL         string              `json:"ttl"`
		Engine      string              `json:"engine"`
	}
	if invalid := decode(c, &cfg); invalid != nil {
		return nil, invalid
	}
	if cfg.Create && len(cfg.Columns) == 0 {
		return nil, field.ErrorList{validation.Errorf(c.path+".config.columns", "create needs at least one column")}
	}
	table := clickhouse.Table{
		Database: cmp.Or(cfg.Database, "default"), Name: cfg.Table, Columns: cfg.Columns, Engine: cmp.Or(cfg.Engine, "MergeTree"),
		OrderBy: orderBy(cfg.OrderBy), PartitionBy: cfg.PartitionBy, TTL: cfg.TTL,
	}
	return []declaration{{
		path: c.path + ".config", kind: kindTable, name: table.Database + "." + table.Name, shape: &tableShape{table, cfg.Create},
	}}, nil
}

// orderBy joins the sorting key; an empty one is ClickHouse's tuple().
func orderBy(columns []string) string {
	if len(columns) == 0 {
		return "tuple()"
	}
	return strings.Join(columns, ", ")
}

func openTables(c *Controller, b backend.Binding) (external.Driver[declaration], io.Closer, error) {
	admin, err := c.Backends.ClickHouse(b)
	if err != nil {
		return external.Driver[declaration]{}, nil, err
	}
	return external.Driver[declaration]{
		Kind: kindTable, Name: nameOf,
		Get: func(ctx context.Context, d declaration) (declaration, error) {
			want := d.shape.(*tableShape)
			have, err := admin.Table(ctx, want.Database, want.Name)
			return declaration{name: d.name, shape: &tableShape{have, true}}, err
		},
		Create: func(ctx context.Context, d declaration) error {
			want := d.shape.(*tableShape).Table
			if err := admin.EnsureDatabase(ctx, want.Database); err != nil {
				return err
			}
			return admin.CreateTable(ctx, want)
		},
		Update:    func(ctx context.Context, want, have declaration) error { return updateTable(ctx, admin, want, have) },
		Usable:    func(want, have declaration) error { return tableFits(want, have, common.ReasonNotOwned, false) },
		MayCreate: tableMayCreate,
		Drop:      qualified(admin.DropTable),
	}, admin, nil
}

// qualified splits a claim's name, "database.table", for drop.
func qualified(drop func(ctx context.Context, database, table string) error) func(context.Context, string) error {
	return func(ctx context.Context, name string) error {
		database, table, ok := strings.Cut(name, ".")
		if !ok {
			return backend.ErrNotFound
		}
		return drop(ctx, database, table)
	}
}

func tableMayCreate(d declaration) error {
	if d.shape.declared() {
		return nil
	}
	return &reconcile.Terminal{Reason: common.ReasonReferenceNotFound, After: 30 * time.Second, Message: d.path +
		".table: table \"" + d.name + "\" does not exist; create it, or set create: true and columns to have this Pipeline create it"}
}

// updateTable adds columns that are missing. A column of another type is reported, never rewritten: that could lose data.
func updateTable(ctx context.Context, admin clickhouse.Admin, want, have declaration) error {
	if err := tableFits(want, have, dataflowv1alpha1.ReasonIncompatibleTable, true); err != nil {
		return err
	}
	w, h := want.shape.(*tableShape), have.shape.(*tableShape)
	if missing := missingColumns(w, h); len(missing) > 0 {
		return admin.AddColumns(ctx, w.Database, w.Name, missing)
	}
	return nil
}

func missingColumns(want, have *tableShape) []clickhouse.Column {
	var out []clickhouse.Column
	for _, column := range want.Columns {
		if _, ok := columnOf(have, column.Name); !ok {
			out = append(out, column)
		}
	}
	return out
}

func columnOf(t *tableShape, name string) (clickhouse.Column, bool) {
	for _, column := range t.Columns {
		if column.Name == name {
			return column, true
		}
	}
	return clickhouse.Column{}, false
}

// tableFits compares columns by name and type. With mayGrow, missing columns are no error.
func tableFits(want, have declaration, reason string, mayGrow bool) error {
	w, h := want.shape.(*tableShape), have.shape.(*tableShape)
	var wrong []string
	for _, column := range w.Columns {
		found, ok := columnOf(h, column.Name)
		switch {
		case ok && !clickhouse.SameType(column.Type, found.Type):
			wrong = append(wrong, column.Name+" is "+found.Type+", not "+column.Type)
		case !ok && !mayGrow:
			wrong = append(wrong, column.Name+" is missing")
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	advice := "; give the column another name, or write to another table"
	if !mayGrow {
		advice = "; this Pipeline did not create the table and does not change it: alter it, or write to another table"
	}
	return &reconcile.Terminal{Reason: reason, After: time.Minute,
		Message: want.path + ".columns: table \"" + want.name + "\": " + strings.Join(wrong, ", ") + advice}
}
