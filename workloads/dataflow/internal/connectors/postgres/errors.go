// SPDX-License-Identifier: Apache-2.0

// Package postgres reads PostgreSQL tables by a growing cursor, and writes batches by COPY.
package postgres

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/itechsmart/operator/internal/backend"
	pg "github.com/itechsmart/operator/internal/backend/postgres"
)

// failure wraps an error in its sentinel. A server's own text may quote a row, so only its code and the names
// of table, column and constraint are kept.
func failure(b backend.Binding, op string, err error) error {
	var answer *pgconn.PgError
	if !errors.As(err, &answer) {
		return pg.Error(b, op, err)
	}
	var kind error
	switch class := answer.Code[:min(2, len(answer.Code))]; {
	case class == "22", class == "23", answer.Code == "42804":
		kind = backend.ErrInvalid
	case answer.Code == "42P01", answer.Code == "42703", answer.Code == "3F000", answer.Code == "3D000":
		kind = backend.ErrNotFound
	case class == "28", answer.Code == "42501":
		kind = backend.ErrAuth
	default:
		// So is an invalid statement (class 42): no record is invalid, and altering the table may help.
		kind = backend.ErrUnavailable
	}
	return b.Error(op, kind, errors.New(describe(answer)))
}

var reasons = map[string]string{
	"22001": "value too long", "22003": "number out of range", "22007": "invalid date or time", "22008": "date or time out of range",
	"22021": "character that the database cannot hold", "22P02": "value does not have the column's type", "22P05": "character that the database cannot hold",
	"23502": "null in a column that must not be null", "23503": "no such row in the referenced table", "23505": "duplicate key", "23514": "check constraint violated",
	"42P01": "table does not exist", "42703": "column does not exist", "42501": "the user lacks a privilege", "42601": "syntax error",
	"3D000": "database does not exist", "3F000": "schema does not exist", "28P01": "wrong password", "53300": "too many connections", "53100": "disk full",
	"57P01": "the server is shutting down", "40P01": "deadlock", "42P10": "no unique index on conflictKeys", "25006": "the server is read-only",
}

func describe(answer *pgconn.PgError) string {
	text := "SQLSTATE " + answer.Code
	if reason := reasons[answer.Code]; reason != "" {
		text += ": " + reason
	}
	for _, part := range []struct{ what, name string }{
		{"table", answer.TableName}, {"column", answer.ColumnName}, {"constraint", answer.ConstraintName},
	} {
		if part.name != "" {
			text += fmt.Sprintf(" (%s %q)", part.what, part.name)
		}
	}
	return text
}
