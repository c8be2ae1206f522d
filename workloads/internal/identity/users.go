// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/mail"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/itechsmart/operator/workloads/internal/api/problem"
	"github.com/itechsmart/operator/workloads/internal/auth"
	"github.com/itechsmart/operator/workloads/internal/db"
)

// errNoUser means that there is no such user.
var errNoUser = errors.New("no such user")

// User is a user without secrets.
type User struct {
	ID        uuid.UUID    `json:"id" format:"uuid"`
	Email     string       `json:"email" format:"email"`
	Name      string       `json:"name"`
	Grants    []auth.Grant `json:"grants"`
	CreatedAt time.Time    `json:"createdAt"`
	UpdatedAt time.Time    `json:"updatedAt"`
}

const (
	maxEmail  = 254
	maxName   = 100
	maxGrants = 100
)

// normalEmail returns the normal form of an address, which is stored and looked up.
func normalEmail(text string) (string, bool) {
	text = strings.TrimSpace(text)
	if len(text) > maxEmail || strings.ContainsFunc(text, func(r rune) bool {
		return r > unicode.MaxASCII || !unicode.IsPrint(r) || r == ' ' || r == '/' || r == '*'
	}) {
		return "", false
	}
	parsed, err := mail.ParseAddress(text)
	if err != nil || parsed.Address != text || parsed.Name != "" {
		return "", false
	}
	return strings.ToLower(text), true
}

func checkName(name string) error {
	if utf8.RuneCountInString(name) > maxName || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return problem.New(http.StatusUnprocessableEntity, "invalid", "the request is invalid",
			problem.Detail{Field: "body.name", Message: fmt.Sprintf("must have at most %d characters and no control characters", maxName)})
	}
	return nil
}

// users is the table of users.
type users struct{ pool *pgxpool.Pool }

const userColumns = "id, email, name, grants, created_at, updated_at"

func scanUser(row pgx.Row) (User, error) {
	var u User
	err := row.Scan(&u.ID, &u.Email, &u.Name, &u.Grants, &u.CreatedAt, &u.UpdatedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		err = errNoUser
	}
	return u, err
}

// queryer is a pool or a transaction.
type queryer interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// insertUser creates a user; db.IsUnique reports whether the address is taken.
func insertUser(ctx context.Context, q queryer, email, name, hash string, grants []auth.Grant) (User, error) {
	if grants == nil {
		grants = []auth.Grant{}
	}
	return scanUser(q.QueryRow(ctx, `INSERT INTO users (id, email, name, password_hash, grants) VALUES ($1, $2, $3, $4, $5)
		RETURNING `+userColumns, uuid.New(), email, name, hash, grants))
}

func (s users) get(ctx context.Context, id string) (User, error) {
	parsed, err := uuid.Parse(id)
	if err != nil {
		return User{}, errNoUser
	}
	return scanUser(s.pool.QueryRow(ctx, "SELECT "+userColumns+" FROM users WHERE id = $1", parsed))
}

// password returns the id and the hash of the user with the address; errNoUser.
func (s users) password(ctx context.Context, email string) (id, hash string, err error) {
	err = s.pool.QueryRow(ctx, "SELECT id::text, password_hash FROM users WHERE email = $1", email).Scan(&id, &hash)
	if errors.Is(err, pgx.ErrNoRows) {
		err = errNoUser
	}
	return id, hash, err
}

// list returns at most limit users whose address follows after.
func (s users) list(ctx context.Context, after string, limit int) ([]User, error) {
	rows, err := s.pool.Query(ctx, "SELECT "+userColumns+" FROM users WHERE email > $1 ORDER BY email LIMIT $2", after, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (User, error) { return scanUser(row) })
}

// rename changes the name, which is not part of tokens.
func (s users) rename(ctx context.Context, id, name string) (User, error) {
	return scanUser(s.pool.QueryRow(ctx, "UPDATE users SET name = $2, updated_at = now() WHERE id = $1 RETURNING "+userColumns, id, name))
}

// change sets a new password and ends every session except keep, in one transaction. errNoUser if the hash is no longer
// old.
func (s users) change(ctx context.Context, id, old, hash, name, keep string) (u User, ended []string, err error) {
	err = db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		var failed error
		u, failed = scanUser(tx.QueryRow(ctx, `UPDATE users SET password_hash = $3, name = $4, updated_at = now()
			WHERE id = $1 AND password_hash = $2 RETURNING `+userColumns, id, old, hash, name))
		if failed != nil {
			return failed
		}
		rows, failed := tx.Query(ctx, `UPDATE sessions SET revoked_at = now()
			WHERE user_id = $1 AND id::text <> $2 AND revoked_at IS NULL RETURNING id::text`, id, keep)
		if failed != nil {
			return failed
		}
		ended, failed = pgx.CollectRows(rows, pgx.RowTo[string])
		return failed
	})
	return u, ended, err
}

// errLastAdministrator: there must always be an administrator of everything.
var errLastAdministrator = errors.New("this is the last administrator")

// setGrants lets edit decide on new grants while the user's row is locked.
func (s users) setGrants(ctx context.Context, id string, edit func(old []auth.Grant) ([]auth.Grant, error)) (u User, changedAt time.Time, err error) {
	parsed, err := uuid.Parse(id)
	if err != nil {
		return User{}, time.Time{}, errNoUser
	}
	err = db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		// One at a time, so that two administrators cannot revoke each other's grants.
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || '/grants', 0))"); err != nil {
			return err
		}
		old, err := scanUser(tx.QueryRow(ctx, "SELECT "+userColumns+" FROM users WHERE id = $1 FOR UPDATE", parsed))
		if err != nil {
			return err
		}
		grants, err := edit(old.Grants)
		if err != nil {
			return err
		}
		// clock_timestamp: the transaction may have waited for the lock.
		row := tx.QueryRow(ctx, `UPDATE users SET grants = $2, updated_at = now(), changed_at = clock_timestamp()
			WHERE id = $1 RETURNING changed_at`, parsed, grants)
		if err := row.Scan(&changedAt); err != nil {
			return err
		}
		if u, err = scanUser(tx.QueryRow(ctx, "SELECT "+userColumns+" FROM users WHERE id = $1", parsed)); err != nil {
			return err
		}
		if !isRoot(old.Grants) || isRoot(grants) {
			return nil
		}
		var left bool
		err = tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM users WHERE grants @> '[{"product":"*","namespace":"*","role":"admin"}]')`).Scan(&left)
		if err == nil && !left {
			err = errLastAdministrator
		}
		return err
	})
	return u, changedAt, err
}

// root is the grant of an administrator of everything.
var root = auth.Grant{Product: "*", Namespace: "*", Role: auth.RoleAdmin}

func isRoot(grants []auth.Grant) bool {
	return (&auth.Principal{Grants: grants}).RoleOn("*", "*") == auth.RoleAdmin
}

// bootstrap creates the first administrator if there is no user. Replicas that start together create one.
func (s users) bootstrap(ctx context.Context, email, hash string) (created bool, err error) {
	err = db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		created = false
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || '/bootstrap', 0))"); err != nil {
			return err
		}
		var any bool
		if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM users)").Scan(&any); err != nil || any {
			return err
		}
		if _, err := insertUser(ctx, tx, email, "", hash, []auth.Grant{root}); err != nil {
			return err
		}
		created = true
		return nil
	})
	return created, err
}

// empty reports whether there is no user yet.
func (s users) empty(ctx context.Context) (bool, error) {
	var some bool
	err := s.pool.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM users)").Scan(&some)
	return !some, err
}
