// SPDX-License-Identifier: Apache-2.0

package sql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/itechsmart/operator/workloads/workflow/internal/steps/step"
)

// keyArgument stands for the call's idempotency key: {"$key": true}.
const keyArgument = "$key"

// parameter converts a value to text, which the server parses by the type of the parameter. Lists are converted later, when that
// type is known.
func parameter(value any, key string) (any, error) {
	switch v := value.(type) {
	case nil, []any:
		return v, nil
	case map[string]any:
		if len(v) == 1 && v[keyArgument] == true {
			return key, nil
		}
		return encode(v)
	}
	text, err := scalar(value)
	if err != nil {
		return nil, err
	}
	if strings.ContainsRune(text, 0) {
		return nil, errors.New("contains a NUL character, which PostgreSQL does not support")
	}
	return text, nil
}

func scalar(value any) (string, error) {
	switch v := value.(type) {
	case string:
		return v, nil
	case bool:
		return strconv.FormatBool(v), nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case int:
		return strconv.Itoa(v), nil
	case float64:
		if whole, ok := step.Whole(v); ok {
			return strconv.FormatInt(whole, 10), nil
		}
		return strconv.FormatFloat(v, 'g', -1, 64), nil
	}
	return "", fmt.Errorf("%s is not a valid parameter", step.Kind(value))
}

func encode(value any) (string, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return "", errors.New("cannot be encoded as JSON")
	}
	return string(text), nil
}

// parameters returns the arguments to send. A list becomes an array if the parameter is one, and JSON otherwise.
func (s statement) parameters(ctx context.Context, conn *pgx.Conn) ([]any, error) {
	var types []uint32
	var out []any
	if s.mode == modeQuery {
		// Text format for all columns, so that values do not depend on the types that the client knows.
		out = append(out, pgx.QueryResultFormats{pgx.TextFormatCode})
	}
	for i, arg := range s.args {
		items, ok := arg.([]any)
		if !ok {
			out = append(out, arg)
			continue
		}
		if types == nil {
			described, err := conn.PgConn().Prepare(ctx, "", s.text, nil)
			if err != nil {
				return nil, err
			}
			types = described.ParamOIDs
		}
		text, err := list(items, i < len(types) && isArray(conn.TypeMap(), types[i]))
		if err != nil {
			return nil, step.Refuse("with.args[%d]: %w", i, err)
		}
		out = append(out, text)
	}
	return out, nil
}

func isArray(types *pgtype.Map, oid uint32) bool {
	found, ok := types.TypeForOID(oid)
	if !ok {
		return false
	}
	_, array := found.Codec.(*pgtype.ArrayCodec)
	return array
}

func list(items []any, array bool) (string, error) {
	if !array {
		return encode(items)
	}
	var b strings.Builder
	err := literal(&b, items)
	return b.String(), err
}

// literal writes an array in PostgreSQL's text format: {"1",NULL,{"a"}}.
func literal(b *strings.Builder, items []any) error {
	b.WriteByte('{')
	for i, item := range items {
		if i > 0 {
			b.WriteByte(',')
		}
		text := ""
		var err error
		switch v := item.(type) {
		case nil:
			b.WriteString("NULL")
			continue
		case []any:
			if err := literal(b, v); err != nil {
				return err
			}
			continue
		case map[string]any:
			text, err = encode(v)
		default:
			text, err = scalar(v)
		}
		if err != nil {
			return err
		}
		b.WriteString(`"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`)
	}
	b.WriteByte('}')
	return nil
}

// query returns {rows, rowCount}. Each row is an object by column name.
func (s statement) query(ctx context.Context, tx pgx.Tx, args []any) (map[string]any, error) {
	rows, err := tx.Query(ctx, s.text, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns := rows.FieldDescriptions()
	if err := distinct(columns); err != nil {
		return nil, err
	}
	list, size := []any{}, 0
	for rows.Next() {
		if len(list) == s.maxRows {
			return nil, step.Refuse("with.maxRows: there are more than %d rows: add a LIMIT, or raise it", s.maxRows)
		}
		row := make(map[string]any, len(columns))
		for i, raw := range rows.RawValues() {
			if size += len(raw) + len(columns[i].Name); size > s.maxBytes {
				return nil, step.Refuse("with.query: the rows have more than %d bytes: select fewer rows or columns", s.maxBytes)
			}
			if row[columns[i].Name], err = column(tx.Conn().TypeMap(), columns[i].DataTypeOID, raw); err != nil {
				return nil, step.Refuse("with.query: column %q: %w", columns[i].Name, err)
			}
		}
		list = append(list, row)
	}
	return map[string]any{"rows": list, "rowCount": int64(len(list))}, rows.Err()
}

func distinct(columns []pgconn.FieldDescription) error {
	seen := map[string]bool{}
	for _, c := range columns {
		if seen[c.Name] {
			return step.Refuse("with.query: two columns are named %q: rename one with AS", c.Name)
		}
		seen[c.Name] = true
	}
	return nil
}

// column converts the text of one value.
func column(types *pgtype.Map, oid uint32, raw []byte) (any, error) {
	if raw == nil {
		return nil, nil
	}
	text := string(raw)
	switch oid {
	case pgtype.BoolOID:
		return text == "t", nil
	case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.OIDOID:
		return strconv.ParseInt(text, 10, 64)
	case pgtype.Float4OID, pgtype.Float8OID, pgtype.NumericOID:
		return number(text), nil
	case pgtype.JSONOID, pgtype.JSONBOID:
		return step.Decode(raw)
	case pgtype.TimestamptzOID:
		return timestamp(types, text), nil
	}
	found, ok := types.TypeForOID(oid)
	if !ok {
		return text, nil
	}
	array, ok := found.Codec.(*pgtype.ArrayCodec)
	if !ok {
		return text, nil
	}
	return elements(types, array.ElementType.OID, raw)
}

// number returns a number if it is exactly what the server wrote, and otherwise the text, so that no digits are lost.
func number(text string) any {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f != f || f-f != 0 {
		return text
	}
	plain := text
	if strings.Contains(plain, ".") && !strings.ContainsAny(plain, "eE") {
		plain = strings.TrimSuffix(strings.TrimRight(plain, "0"), ".")
	}
	if strconv.FormatFloat(f, 'f', -1, 64) == plain || strings.ContainsAny(text, "eE") {
		return f
	}
	return text
}

// timestamp returns a time in RFC 3339. It does not change infinity.
func timestamp(types *pgtype.Map, text string) any {
	var at time.Time
	if types.Scan(pgtype.TimestamptzOID, pgtype.TextFormatCode, []byte(text), &at) != nil {
		return text
	}
	return at.UTC().Format(time.RFC3339Nano)
}

// elements converts an array. One with several dimensions remains text.
func elements(types *pgtype.Map, element uint32, raw []byte) (any, error) {
	var array pgtype.Array[pgtype.Text]
	if err := types.PlanScan(pgtype.TextArrayOID, pgtype.TextFormatCode, &array).Scan(raw, &array); err != nil || len(array.Dims) > 1 {
		return string(raw), nil
	}
	out := make([]any, len(array.Elements))
	for i, item := range array.Elements {
		if !item.Valid {
			continue
		}
		value, err := column(types, element, []byte(item.String))
		if err != nil {
			return nil, err
		}
		out[i] = value
	}
	return out, nil
}
