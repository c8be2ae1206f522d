// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/xdg-go/stringprep"

	"github.com/itechsmart/operator/internal/backend"
)

// scramIterations is PostgreSQL's default.
const scramIterations = 4096

// verifier returns what PostgreSQL stores of a password (RFC 5803), so that the password itself is in no
// statement and no server log.
func verifier(password string, salt []byte, iterations int) (string, error) {
	// Like the server: a password that SASLprep refuses is used unchanged.
	if prepared, err := stringprep.SASLprep.Prepare(password); err == nil {
		password = prepared
	}
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err != nil {
		return "", err
	}
	sign := func(text string) []byte {
		mac := hmac.New(sha256.New, salted)
		mac.Write([]byte(text))
		return mac.Sum(nil)
	}
	stored := sha256.Sum256(sign("Client Key"))
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, encode(salt), encode(stored[:]), encode(sign("Server Key"))), nil
}

// matches reports whether a stored verifier belongs to the password.
func matches(stored, password string) bool {
	fields := strings.FieldsFunc(stored, func(c rune) bool { return c == '$' || c == ':' })
	if len(fields) != 5 || fields[0] != "SCRAM-SHA-256" {
		return false
	}
	iterations, err := strconv.Atoi(fields[1])
	if err != nil || iterations < 1 || iterations > 10_000_000 {
		return false
	}
	salt, err := base64.StdEncoding.DecodeString(fields[2])
	if err != nil {
		return false
	}
	own, err := verifier(password, salt, iterations)
	return err == nil && hmac.Equal([]byte(own), []byte(stored))
}

func (a *admin) EnsureRole(ctx context.Context, role, password string) error {
	if err := validRole(role); err != nil {
		return err
	}
	if password == "" {
		return fmt.Errorf("role %s: the password is empty: %w", role, backend.ErrInvalid)
	}
	op := "ensure role " + role
	exists, err := a.tenant(ctx, role)
	if err != nil {
		return a.redactedError(op, password, err)
	}
	same, err := a.hasPassword(ctx, exists, role, password)
	if err != nil || same {
		return a.redactedError(op, password, err)
	}
	secret, err := newVerifier(password)
	if err != nil {
		return a.redactedError(op, password, err)
	}
	verb := "CREATE"
	if exists {
		verb = "ALTER"
	}
	return a.redactedError(op, password, a.exec(ctx, op, verb+" ROLE "+Quote(role)+" LOGIN PASSWORD "+literal(secret)))
}

// hasPassword reports whether the role can already log in with the password. Only a superuser may check; for
// all others it is false, and they set the password again.
func (a *admin) hasPassword(ctx context.Context, exists bool, role, password string) (bool, error) {
	if !exists {
		return false, nil
	}
	var stored *string
	err := a.pool.QueryRow(ctx, "SELECT rolpassword FROM pg_authid WHERE rolname = $1 AND rolcanlogin", role).Scan(&stored)
	if err != nil && !errors.Is(kindOf(err), backend.ErrAuth) && !errors.Is(err, pgx.ErrNoRows) {
		return false, err
	}
	return err == nil && stored != nil && matches(*stored, password), nil
}

// newVerifier returns a verifier with a new salt.
func newVerifier(password string) (string, error) {
	salt := make([]byte, 16)
	if _, err := rand.Read(salt); err != nil {
		return "", err
	}
	return verifier(password, salt, scramIterations)
}

// redactedError is Error, and redacts the role's password too.
func (a *admin) redactedError(op, password string, err error) error {
	if err == nil {
		return nil
	}
	kind := kindOf(err)
	b := a.binding
	b.Password, b.URI = password, ""
	return a.binding.Error("postgres: "+op, kind, b.Error(op, kind, err))
}

// tenant reports whether the role exists. A role that administers the server, or the login itself, is
// ErrExists: it must not be changed.
func (a *admin) tenant(ctx context.Context, role string) (exists bool, err error) {
	var administers bool
	err = a.pool.QueryRow(ctx, `SELECT rolsuper OR rolcreaterole OR rolreplication OR rolbypassrls OR rolname = current_user
		FROM pg_roles WHERE rolname = $1`, role).Scan(&administers)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return false, nil
	case err == nil && administers:
		return true, fmt.Errorf("%w: role %s administers the server", backend.ErrExists, role)
	}
	return err == nil, err
}

func (a *admin) DropRole(ctx context.Context, role string) error {
	if err := validRole(role); err != nil {
		return err
	}
	op := "drop role " + role
	exists, err := a.tenant(ctx, role)
	if err == nil && !exists {
		err = backend.ErrNotFound
	}
	if err != nil {
		return Error(a.binding, op, err)
	}
	name := Quote(role)
	return a.exec(ctx, op, "GRANT "+name+" TO CURRENT_USER", "REASSIGN OWNED BY "+name+" TO CURRENT_USER",
		"DROP OWNED BY "+name, "DROP ROLE "+name)
}

// grants returns the statements that grant or revoke access; owner is the schema's, whose future tables are
// included.
func grants(verb, preposition, schema, role, owner string, tables, sequences string) []string {
	in := " IN SCHEMA " + Quote(schema)
	to := " " + preposition + " " + Quote(role)
	defaults := "ALTER DEFAULT PRIVILEGES FOR ROLE " + Quote(owner) + in + " " + verb + " "
	return []string{
		verb + " USAGE ON SCHEMA " + Quote(schema) + to,
		verb + " " + tables + " ON ALL TABLES" + in + to,
		verb + " " + sequences + " ON ALL SEQUENCES" + in + to,
		defaults + tables + " ON TABLES" + to,
		defaults + sequences + " ON SEQUENCES" + to,
	}
}

func (a *admin) GrantSchema(ctx context.Context, schema, role string, access Access) error {
	if err := validRole(role); err != nil {
		return err
	}
	if access != ReadOnly && access != ReadWrite {
		return fmt.Errorf("access %q is neither %s nor %s: %w", access, ReadOnly, ReadWrite, backend.ErrInvalid)
	}
	got, err := a.Schema(ctx, schema)
	if err != nil {
		return err
	}
	// Privileges of a broader grant are revoked first.
	statements := grants("REVOKE", "FROM", schema, role, got.Owner, "ALL", "ALL")
	if access == ReadOnly {
		statements = append(statements, grants("GRANT", "TO", schema, role, got.Owner, "SELECT", "SELECT")...)
	} else {
		statements = append(statements, grants("GRANT", "TO", schema, role, got.Owner, "SELECT, INSERT, UPDATE, DELETE", "USAGE, SELECT")...)
	}
	return a.exec(ctx, "grant schema "+schema+" to "+role, statements...)
}

func (a *admin) RevokeSchema(ctx context.Context, schema, role string) error {
	if err := validRole(role); err != nil {
		return err
	}
	got, err := a.Schema(ctx, schema)
	if err != nil {
		return err
	}
	return a.exec(ctx, "revoke schema "+schema+" from "+role, grants("REVOKE", "FROM", schema, role, got.Owner, "ALL", "ALL")...)
}
