// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	wire "github.com/itechsmart/operator/workloads/vault/client"
	"github.com/itechsmart/operator/workloads/vault/internal/seal"
)

// TestTamperedRows is an attacker who may write to the database.
func TestTamperedRows(t *testing.T) {
	for name, c := range map[string]struct {
		sql  string
		read string // path@version that must not open
	}{
		"versions of one secret swapped": {`UPDATE versions v SET ciphertext = o.ciphertext FROM versions o
			WHERE o.secret_id = v.secret_id AND o.version = 3 - v.version`, "a@1"},
		"an old version as the newest":              {`UPDATE versions v SET ciphertext = o.ciphertext FROM versions o WHERE o.secret_id = v.secret_id AND o.version = 1`, "a@2"},
		"a version of another secret":               {`UPDATE versions v SET ciphertext = o.ciphertext FROM versions o WHERE o.version = v.version AND o.secret_id <> v.secret_id`, "a@1"},
		"a version of another secret, with its key": {`UPDATE versions v SET ciphertext = o.ciphertext, data_key_id = o.data_key_id FROM versions o WHERE o.version = v.version AND o.secret_id <> v.secret_id`, "a@1"},
		"wrapped keys swapped":                      {`UPDATE data_keys d SET wrapped = o.wrapped FROM data_keys o WHERE o.id <> d.id`, "a@1"},
		"renamed":                                   {`UPDATE secrets SET path = 'c' WHERE path = 'a'`, "c@1"},
		"renamed with its key":                      {`UPDATE secrets SET path = 'c' WHERE path = 'a'; UPDATE data_keys SET subject = 'c' WHERE subject = 'a'`, "c@1"},
		"paths swapped":                             {`UPDATE secrets SET path = 'c' WHERE path = 'a'; UPDATE secrets SET path = 'a' WHERE path = 'b'`, "a@1"},
		"another type":                              {`UPDATE secrets SET type = 'File'`, "a@1"},
		"renumbered":                                {`UPDATE versions SET version = 9 WHERE version = 1`, "a@9"},
		"cut":                                       {`UPDATE versions SET ciphertext = substring(ciphertext FROM 1 FOR length(ciphertext) - 1)`, "a@1"},
		"cut to the nonce":                          {`UPDATE versions SET ciphertext = substring(ciphertext FROM 1 FOR 12)`, "a@1"},
		"emptied":                                   {`UPDATE versions SET ciphertext = ''`, "a@1"},
		"a bit flipped":                             {`UPDATE versions SET ciphertext = set_bit(ciphertext, 100, 1 - get_bit(ciphertext, 100))`, "a@1"},
		"a byte appended":                           {`UPDATE versions SET ciphertext = ciphertext || '\x00'`, "a@1"},
		"an unknown data key":                       {`UPDATE versions SET data_key_id = gen_random_uuid()`, "a@1"},
		"the wrapped key cut":                       {`UPDATE data_keys SET wrapped = substring(wrapped FROM 2)`, "a@1"},
		"the wrapped key emptied":                   {`UPDATE data_keys SET wrapped = ''`, "a@1"},
		"an unknown root key": {`INSERT INTO root_keys SELECT 'root-0-forged', 0, salt, iterations, check_value, 0, 0, NULL, NULL, false FROM root_keys;
			UPDATE data_keys SET root_key_id = 'root-0-forged'`, "a@1"},
	} {
		t.Run(name, func(t *testing.T) {
			v, pool := newVault(t)
			for _, path := range []string{"a", "b"} {
				mustCreate(t, v, path, "value of "+path)
				mustPut(t, v, path, "new value of "+path)
			}
			exec(t, pool, c.sql)
			path, version, _ := strings.Cut(c.read, "@")
			_, err := v.Read(t.Context(), path, int64(version[0]-'0'))
			wantErr(t, "read", err, ErrCorrupt)
			if err != nil && (strings.Contains(err.Error(), "value of") || strings.Contains(err.Error(), "SELECT")) {
				t.Errorf("the error reveals too much: %v", err)
			}
			_, err = v.Rollback(t.Context(), path, int64(version[0]-'0'), "eve")
			wantErr(t, "roll back", err, ErrCorrupt)
		})
	}
}

// TestMovedNamespace moves rows to another namespace of the same installation.
func TestMovedNamespace(t *testing.T) {
	v, pool := newVault(t)
	other := replica(t, pool, "team-b")
	mustCreate(t, v, "a", "value")
	_, err := other.Read(t.Context(), "a", 0)
	wantErr(t, "another namespace", err, ErrNotFound)
	exec(t, pool, `UPDATE secrets SET namespace = 'team-b'`)
	_, err = other.Read(t.Context(), "a", 0)
	wantErr(t, "a moved row", err, ErrCorrupt)
	exec(t, pool, `UPDATE data_keys SET namespace = 'team-b'`)
	_, err = other.Read(t.Context(), "a", 0)
	wantErr(t, "a moved row with its key", err, ErrCorrupt)
}

// TestTamperedKeys checks that a key that does not open does not block the re-wrap of the others and is not lost.
func TestTamperedKeys(t *testing.T) {
	v, pool := newVault(t)
	read := fill(t, v, 7)
	mustCreate(t, v, "bad", "x")
	exec(t, pool, `UPDATE data_keys SET wrapped = set_bit(wrapped, 100, 1 - get_bit(wrapped, 100)) WHERE subject = 'bad'`)
	if _, err := v.RotateRoot(t.Context(), []byte(passphrase)); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "re-wrap", v.Rewrap(t.Context()), ErrCorrupt)
	if s := status(t, v); s.Stale != 1 || s.Total != 8 || rootKeys(t, pool) != 2 {
		t.Errorf("%+v with %d root keys", s, rootKeys(t, pool))
	}
	exec(t, pool, `UPDATE data_keys SET wrapped = set_bit(wrapped, 100, 1 - get_bit(wrapped, 100)) WHERE subject = 'bad'`)
	if err := v.Rewrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	read(v)
	wantText(t, v, "bad", 0, "x")
}

func TestTamperedRootKeys(t *testing.T) {
	v, pool := newVault(t)
	mustCreate(t, v, "a", "x")
	unseal := func() error { return New(pool, options(namespace)).Unseal(t.Context(), []byte(passphrase)) }
	for _, sql := range []string{
		`UPDATE root_keys SET salt = set_byte(salt, 0, 255 - get_byte(salt, 0))`,
		`UPDATE root_keys SET iterations = iterations + 1`,
		`UPDATE root_keys SET check_value = set_byte(check_value, 0, 255 - get_byte(check_value, 0))`,
		`UPDATE root_keys SET generation = generation + 1`,
	} {
		var row rootRow
		_, row, err := v.(*store).roots(t.Context(), pool)
		if err != nil {
			t.Fatal(err)
		}
		exec(t, pool, sql)
		wantErr(t, sql, unseal(), ErrPassphrase)
		exec(t, pool, `UPDATE root_keys SET salt = $1, iterations = $2, check_value = $3, generation = $4`, row.Salt, row.Iterations, row.Check, row.Generation)
		if err := unseal(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := v.RotateRoot(t.Context(), []byte(passphrase)); err != nil {
		t.Fatal(err)
	}
	exec(t, pool, `UPDATE root_keys SET previous = set_byte(previous, 20, 255 - get_byte(previous, 20)) WHERE active`)
	wantErr(t, "a forged link", unseal(), ErrCorrupt)
}

// TestTamperedSealingKey checks that a forged sealing key is never returned.
func TestTamperedSealingKey(t *testing.T) {
	v, pool := newVault(t)
	key, err := v.SealingKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, public, err := seal.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	exec(t, pool, `UPDATE sealing_keys SET public_key = $1`, public)
	if again, err := v.SealingKey(t.Context()); err != nil || !bytes.Equal(again.PublicKey, key.PublicKey) {
		t.Errorf("a forged public key was returned, %v", err)
	}
	exec(t, pool, `UPDATE sealing_keys SET id = $1, public_key = $2`, seal.KeyID(public), public)
	_, err = v.SealingKey(t.Context())
	wantErr(t, "a forged key id", err, ErrCorrupt)
}

// dump returns everything in the schema, as bytes and as text.
func dump(t testing.TB, pool *pgxpool.Pool) []byte {
	t.Helper()
	rows, err := pool.Query(t.Context(), `SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()`)
	if err != nil {
		t.Fatal(err)
	}
	var tables []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		tables = append(tables, name)
	}
	if rows.Err() != nil || len(tables) < 6 { // goose's too
		t.Fatalf("tables %v, %v", tables, rows.Err())
	}
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	var out bytes.Buffer
	for _, table := range tables {
		for _, format := range []string{"binary", "text"} {
			if _, err := conn.Conn().PgConn().CopyTo(t.Context(), &out, `COPY "`+table+`" TO STDOUT (FORMAT `+format+`)`); err != nil {
				t.Fatal(err)
			}
		}
	}
	return out.Bytes()
}

// TestNoPlaintextInTheDatabase searches a dump of the schema for what was written, and for every key.
func TestNoPlaintextInTheDatabase(t *testing.T) {
	v, pool := newVault(t)
	ctx := t.Context()
	const canary, known = "canary-6b1f9c0e-secret", "canary-metadata"
	if _, err := v.Create(ctx, "a", wire.Write{Type: wire.TypeText, Value: text(canary), Metadata: map[string]string{"k": known}}, "ada"); err != nil {
		t.Fatal(err)
	}
	mustPut(t, v, "a", canary+" again")
	generated := applies(t, v, "key", wire.Apply{Type: wire.TypeAPIKey, Generate: &wire.Generate{}, SourceHash: "h"}, 1, true).Value
	issued := applies(t, v, "crt", wire.Apply{Type: wire.TypeCertificate, Issue: &wire.Issue{DNSNames: []string{"a"}}, SourceHash: "h"}, 1, true).Value
	key, err := v.SealingKey(ctx)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := seal.Seal(key.PublicKey, seal.Binding{Namespace: namespace, Name: "s"}, text(canary))
	if err != nil {
		t.Fatal(err)
	}
	applies(t, v, "s", wire.Apply{Type: wire.TypeText, Name: "s", Sealed: sealed, SourceHash: "h"}, 1, true)
	if _, err := v.Diff(ctx, "a", 1, 2); err != nil {
		t.Fatal(err)
	}
	if _, err := v.RotateRoot(ctx, []byte(passphrase)); err != nil {
		t.Fatal(err)
	}
	secrets := map[string][]byte{"the value": []byte(canary), "the passphrase": []byte(passphrase), "a generated value": generated[wire.FieldKey],
		"an issued key": issued[wire.FieldPrivateKey][40:90]}
	keys := v.(*store).keyring()
	rows, err := pool.Query(ctx, `SELECT id::text, namespace, purpose, subject, root_key_id, wrapped FROM data_keys`)
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		row, err := scanDataKey(rows)
		if err != nil {
			t.Fatal(err)
		}
		key, err := row.open(keys)
		if err != nil {
			t.Fatal(err)
		}
		secrets["data key "+row.Purpose+" "+row.Subject] = key.Bytes()
	}
	if rows.Err() != nil || len(secrets) != 4+6 {
		t.Fatalf("%d secrets to search for, %v", len(secrets), rows.Err())
	}
	holds := func(where, what []byte) bool {
		for _, form := range [][]byte{what, []byte(hex.EncodeToString(what)), []byte(base64.StdEncoding.EncodeToString(what)), []byte(base64.RawURLEncoding.EncodeToString(what))} {
			if bytes.Contains(where, form) {
				return true
			}
		}
		return false
	}
	for stage, where := range map[string][]byte{"during the rotation": dump(t, pool), "at the end": func() []byte {
		if err := v.Rewrap(ctx); err != nil {
			t.Fatal(err)
		}
		return dump(t, pool)
	}()} {
		if !holds(where, []byte(known)) {
			t.Fatal("the dump lacks the metadata")
		}
		for what, secret := range secrets {
			if holds(where, secret) {
				t.Errorf("%s: the database holds %s", stage, what)
			}
		}
	}
}
