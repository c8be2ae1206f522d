// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Migrations returns the migrations of the audit log, for the product's schema.
func Migrations() fs.FS {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // the name above is wrong
	}
	return sub
}

// makeHead creates the row that all replicas lock.
func makeHead(ctx context.Context, pool *pgxpool.Pool) error {
	_, err := pool.Exec(ctx, `INSERT INTO audit_marks (kind, seq, hash, time, key_id, signature)
		VALUES ('head', 0, $1, to_timestamp(0), '', '') ON CONFLICT DO NOTHING`, make([]byte, len(Hash{})))
	return err
}

// position returns the number of the newest line of a spool that the database has; 0: none.
func position(ctx context.Context, pool *pgxpool.Pool, spoolID string) (uint64, error) {
	var at int64
	err := pool.QueryRow(ctx, `SELECT position FROM audit_spools WHERE id = $1`, spoolID).Scan(&at)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	return uint64(at), err
}

// takeOver appends the records that the database does not have yet to the chain, in one transaction that locks the head,
// and returns their rows. It is idempotent: called again with the same records, after a lost response, it changes
// nothing.
func (l *Log) takeOver(ctx context.Context, records []spooled) ([]row, error) {
	tx, err := l.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
	if err != nil {
		return nil, err
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // after a commit there is nothing to roll back
	head, checked, done, err := l.lockHead(ctx, tx)
	if err != nil {
		return nil, err
	}
	fresh := records
	for len(fresh) > 0 && fresh[0].number <= done {
		fresh = fresh[1:]
	}
	if len(fresh) == 0 {
		return nil, nil
	}
	var payloads [][]byte
	if head.seq > 0 && !head.signedBy(l.public) {
		payloads = append(payloads, l.finding(head))
	}
	for _, r := range fresh {
		payloads = append(payloads, r.payload)
	}
	rows := extend(head.seq, head.hash, payloads)
	batch := &pgx.Batch{}
	if err := queueRows(batch, rows); err != nil {
		return nil, err
	}
	last := rows[len(rows)-1]
	newHead := mark{kind: markHead, product: l.options.Product, seq: last.seq, hash: last.hash, time: l.now()}
	newHead.sign(l.options.Key)
	queueMark(batch, newHead)
	if last.seq/checkpointRows > head.seq/checkpointRows || newHead.time.Sub(checked) >= checkpointEvery {
		batch.Queue(`INSERT INTO audit_checkpoints (seq, hash, time, key_id, signature) VALUES ($1, $2, $3, $4, $5)`,
			newHead.seq, newHead.hash[:], newHead.time, newHead.keyID, newHead.signature)
	}
	batch.Queue(`INSERT INTO audit_spools (id, position) VALUES ($1, $2)
		ON CONFLICT (id) DO UPDATE SET position = excluded.position, updated_at = now()`,
		l.spool.id, int64(fresh[len(fresh)-1].number))
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return nil, fmt.Errorf("append to the audit log: %w", err)
	}
	if err := tx.Commit(ctx); err != nil {
		return nil, fmt.Errorf("append to the audit log: %w", err)
	}
	return rows, nil
}

// lockHead locks the head, and reads the time of the last checkpoint and how much of this spool was handed over.
func (l *Log) lockHead(ctx context.Context, tx pgx.Tx) (head mark, checked time.Time, done uint64, err error) {
	head, err = l.scanMark(markHead, tx.QueryRow(ctx, selectMark+` FOR UPDATE`, markHead))
	if err != nil {
		return mark{}, time.Time{}, 0, fmt.Errorf("lock the audit log: %w", err)
	}
	// A statement of its own: it sees what the previous holder of the lock committed.
	var at int64
	err = tx.QueryRow(ctx, `SELECT COALESCE((SELECT position FROM audit_spools WHERE id = $1), 0),
		COALESCE((SELECT time FROM audit_checkpoints ORDER BY seq DESC LIMIT 1), to_timestamp(0))`, l.spool.id).Scan(&at, &checked)
	if err != nil {
		return mark{}, time.Time{}, 0, fmt.Errorf("read the audit log's position: %w", err)
	}
	return head, checked, uint64(at), nil
}

// extend links payloads to the chain after seq.
func extend(seq int64, prev Hash, payloads [][]byte) []row {
	rows := make([]row, len(payloads))
	for i, payload := range payloads {
		seq++
		rows[i] = row{seq: seq, prev: prev, hash: link(prev, seq, payload), canonical: payload}
		prev = rows[i].hash
	}
	return rows
}

// queueRows inserts all rows in one statement.
func queueRows(batch *pgx.Batch, rows []row) error {
	n := len(rows)
	seqs, times := make([]int64, n), make([]time.Time, n)
	users, actions, objects, events := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	prevs, hashes := make([][]byte, n), make([][]byte, n)
	for i := range rows {
		var e Event
		if err := json.Unmarshal(rows[i].canonical, &e); err != nil {
			return fmt.Errorf("audit spool: %w", err)
		}
		seqs[i], times[i], users[i], actions[i], objects[i] = rows[i].seq, e.Time, e.User, e.Action, e.Object
		events[i], prevs[i], hashes[i] = string(rows[i].canonical), rows[i].prev[:], rows[i].hash[:]
	}
	batch.Queue(`INSERT INTO audit_events (seq, time, user_name, action, object, event, prev, hash)
		SELECT * FROM unnest($1::bigint[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[], $8::bytea[])`,
		seqs, times, users, actions, objects, events, prevs, hashes)
	return nil
}

const (
	markColumns = `seq, hash, time, key_id, signature`
	selectMark  = `SELECT ` + markColumns + ` FROM audit_marks WHERE kind = $1`
)

// scanMark reads a row of markColumns.
func (l *Log) scanMark(kind string, r pgx.Row) (mark, error) {
	m := mark{kind: kind, product: l.options.Product}
	var hash []byte
	err := r.Scan(&m.seq, &hash, &m.time, &m.keyID, &m.signature)
	copy(m.hash[:], hash)
	return m, err
}

// queueMark writes the head or the anchor.
func queueMark(batch *pgx.Batch, m mark) {
	batch.Queue(`INSERT INTO audit_marks (kind, seq, hash, time, key_id, signature) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (kind) DO UPDATE SET seq = excluded.seq, hash = excluded.hash, time = excluded.time,
		key_id = excluded.key_id, signature = excluded.signature`,
		m.kind, m.seq, m.hash[:], m.time, m.keyID, m.signature)
}

// finding returns the event which reports that the head was not written by a holder of the key. It is added to the chain,
// because refusing to log would hide what follows.
func (l *Log) finding(head mark) []byte {
	reason := "the head's signature does not hold: the audit log's tables were modified by someone else"
	if head.keyID != KeyID(l.public) {
		reason = "the head was signed with another key: the key was changed, or the audit log's tables were modified by someone else"
	}
	l.options.Log.Error("audit chain", "problem", reason, "seq", head.seq)
	e := Event{
		Time: l.now(), Product: l.options.Product, User: "audit", Action: ActionTampered, Outcome: Failed, Object: "audit",
		Details: map[string]string{"reason": reason},
	}
	normalize(&e, l.now())
	return appendCanonical(nil, &e)
}
