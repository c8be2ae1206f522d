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
	"github.com/itechsmart/operator/internal/backend/postgres"
)

// postgresShape is a table as a postgres sink specifies it.
type postgresShape struct {
	postgres.Table
	create bool
}

func (s *postgresShape) declared() bool { return s.create }

func (s *postgresShape) same(other shape) bool {
	o, ok := other.(*postgresShape)
	return ok && reflect.DeepEqual(s.Table, o.Table)
}

// readPostgresTable returns the table of a sink. A source only reads, and its worker reports what is missing.
func readPostgresTable(c component) ([]declaration, field.ErrorList) {
	if c.kind != kindSink {
		return nil, nil
	}
	var cfg struct {
		Schema     string            `json:"schema"`
		Table      string            `json:"table"`
		Create     bool              `json:"create"`
		Columns    []postgres.Column `json:"columns"`
		PrimaryKey []string          `json:"primaryKey"`
	}
	if invalid := decode(c, &cfg); invalid != nil {
		return nil, invalid
	}
	if cfg.Create && len(cfg.Columns) == 0 {
		return nil, field.ErrorList{validation.Errorf(c.path+".config.columns", "create needs at least one column")}
	}
	table := postgres.Table{Schema: cmp.Or(cfg.Schema, "public"), Name: cfg.Table, Columns: cfg.Columns, PrimaryKey: cfg.PrimaryKey}
	return []declaration{{
		path: c.path + ".config", kind: kindPostgresTable, name: table.Schema + "." + table.Name, shape: &postgresShape{table, cfg.Create},
	}}, nil
}

func openPostgresTables(c *Controller, b backend.Binding) (external.Driver[declaration], io.Closer, error) {
	admin, err := c.Backends.Postgres(b)
	if err != nil {
		return external.Driver[declaration]{}, nil, err
	}
	return external.Driver[declaration]{
		Kind: kindPostgresTable, Name: nameOf,
		Get: func(ctx context.Context, d declaration) (declaration, error) {
			want := d.shape.(*postgresShape)
			have, err := admin.Table(ctx, want.Schema, want.Name)
			return declaration{name: d.name, shape: &postgresShape{have, true}}, err
		},
		Create: func(ctx context.Context, d declaration) error {
			want := d.shape.(*postgresShape).Table
			if err := admin.EnsureSchema(ctx, want.Schema, ""); err != nil {
				return err
			}
			return admin.CreateTable(ctx, want)
		},
		Update: func(ctx context.Context, want, have declaration) error {
			return updatePostgresTable(ctx, admin, want, have)
		},
		Usable:    postgresUsable,
		MayCreate: tableMayCreate,
		Drop:      qualified(admin.DropTable),
	}, admin, nil
}

// updatePostgresTable adds columns that are missing, and reports what else differs.
func updatePostgresTable(ctx context.Context, admin postgres.Admin, want, have declaration) error {
	w := want.shape.(*postgresShape)
	drift := w.Drift(have.shape.(*postgresShape).Table)
	if len(drift.Fixed) > 0 {
		return postgresDiffers(want, dataflowv1alpha1.ReasonIncompatibleTable, drift.Fixed)
	}
	if len(drift.Missing) == 0 {
		return nil
	}
	return admin.AddColumns(ctx, w.Schema, w.Name, drift.Missing)
}

func postgresUsable(want, have declaration) error {
	drift := want.shape.(*postgresShape).Drift(have.shape.(*postgresShape).Table)
	wrong := drift.Fixed
	for _, column := range drift.Missing {
		wrong = append(wrong, "column "+column.Name+" is missing")
	}
	if !want.shape.declared() || len(wrong) == 0 {
		return nil
	}
	return postgresDiffers(want, common.ReasonNotOwned, wrong)
}

func postgresDiffers(want declaration, reason string, wrong []string) error {
	return &reconcile.Terminal{Reason: reason, After: time.Minute, Message: want.path + ".columns: table \"" + want.name + "\": " +
		strings.Join(wrong, ", ") + "; alter the table by hand, or write to another one"}
}
