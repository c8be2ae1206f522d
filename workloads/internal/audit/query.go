// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// MaxLimit limits a page of List.
const MaxLimit = 1000

// Filter of List. Empty fields do not filter.
type Filter struct {
	User string
	// Action and Object match exactly, or by prefix if they end in "*".
	Action, Object string
	// Since is included, Until is not.
	Since, Until time.Time
	// Before is the cursor: the sequence number of the last entry of the previous page; 0: the newest first.
	Before int64
	Limit  int // 100 when zero, at most MaxLimit
}

// List returns the matching entries, the newest first. next is the cursor of the next page, 0 on the last page. It reads
// the database: events in the spill appear later.
func (l *Log) List(ctx context.Context, f Filter) (entries []Entry, next int64, err error) {
	limit := f.Limit
	if limit <= 0 {
		limit = 100
	}
	limit = min(limit, MaxLimit)
	where, args := f.where()
	args = append(args, limit+1)
	query := fmt.Sprintf(`SELECT seq, prev, hash, event FROM audit_events%s ORDER BY seq DESC LIMIT $%d`, where, len(args))
	rows, err := l.pool.Query(ctx, query, args...)
	if err != nil {
		return nil, 0, fmt.Errorf("list the audit log: %w", err)
	}
	entries = make([]Entry, 0, limit)
	err = eachRow(rows, func(r *row) error {
		if len(entries) == limit {
			next = entries[limit-1].Seq
			return nil
		}
		e, err := r.entry()
		entries = append(entries, e)
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("list the audit log: %w", err)
	}
	return entries, next, nil
}

// where returns the filter as SQL: no text of a caller is part of the statement.
func (f *Filter) where() (string, []any) {
	var terms []string
	var args []any
	add := func(term string, arg any) {
		args = append(args, arg)
		terms = append(terms, fmt.Sprintf(term, len(args)))
	}
	if f.User != "" {
		add("user_name = $%d", f.User)
	}
	for column, text := range map[string]string{"action": f.Action, "object": f.Object} {
		if prefix, ok := strings.CutSuffix(text, "*"); ok {
			add(column+` LIKE $%d`, strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(prefix)+"%")
		} else if text != "" {
			add(column+" = $%d", text)
		}
	}
	if !f.Since.IsZero() {
		add("time >= $%d", f.Since)
	}
	if !f.Until.IsZero() {
		add("time < $%d", f.Until)
	}
	if f.Before > 0 {
		add("seq < $%d", f.Before)
	}
	if len(terms) == 0 {
		return "", nil
	}
	return " WHERE " + strings.Join(terms, " AND "), args
}

// eachRow calls f for each row of (seq, prev, hash, event).
func eachRow(rows pgx.Rows, f func(*row) error) error {
	defer rows.Close()
	for rows.Next() {
		var r row
		var prev, hash []byte
		var event string
		if err := rows.Scan(&r.seq, &prev, &hash, &event); err != nil {
			return err
		}
		r.canonical = []byte(event)
		copy(r.prev[:], prev)
		copy(r.hash[:], hash)
		if err := f(&r); err != nil {
			return err
		}
	}
	return rows.Err()
}

// exportPage is how many rows are read at once.
const exportPage = 1000

// Export writes the whole chain as JSON lines, the oldest first: the anchor if old events were deleted, events,
// checkpoints in their places, and the signed head. Verify reads it. It is one snapshot of the database.
func (l *Log) Export(ctx context.Context, w io.Writer) error {
	tx, err := l.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return fmt.Errorf("export the audit log: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // it only reads
	out := bufio.NewWriterSize(w, 64<<10)
	if err := l.export(ctx, tx, out); err != nil {
		return fmt.Errorf("export the audit log: %w", err)
	}
	return out.Flush()
}

func (l *Log) export(ctx context.Context, tx pgx.Tx, out *bufio.Writer) error {
	var line []byte
	anchor, err := l.scanMark(markAnchor, tx.QueryRow(ctx, selectMark, markAnchor))
	if err == nil {
		line = anchor.appendLine(line[:0])
		if _, err := out.Write(line); err != nil {
			return err
		}
	} else if !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	checkpoints, err := l.checkpoints(ctx, tx)
	if err != nil {
		return err
	}
	for after := int64(0); ; {
		rows, err := tx.Query(ctx, `SELECT seq, prev, hash, event FROM audit_events WHERE seq > $1 ORDER BY seq LIMIT $2`, after, exportPage)
		if err != nil {
			return err
		}
		n := 0
		err = eachRow(rows, func(r *row) error {
			n, after = n+1, r.seq
			line = r.appendLine(line[:0])
			for len(checkpoints) > 0 && checkpoints[0].seq <= r.seq {
				line = checkpoints[0].appendLine(line)
				checkpoints = checkpoints[1:]
			}
			_, err := out.Write(line)
			return err
		})
		if err != nil {
			return err
		}
		if n < exportPage {
			break
		}
	}
	head, err := l.scanMark(markHead, tx.QueryRow(ctx, selectMark, markHead))
	if err != nil || head.seq == 0 {
		return err
	}
	for i := range checkpoints { // of missing rows: the verifier must see it
		line = checkpoints[i].appendLine(line[:0])
		if _, err := out.Write(line); err != nil {
			return err
		}
	}
	_, err = out.Write(head.appendLine(line[:0]))
	return err
}

func (l *Log) checkpoints(ctx context.Context, tx pgx.Tx) ([]mark, error) {
	rows, err := tx.Query(ctx, `SELECT `+markColumns+` FROM audit_checkpoints ORDER BY seq`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(r pgx.CollectableRow) (mark, error) { return l.scanMark(markCheckpoint, r) })
}
