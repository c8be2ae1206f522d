// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	wire "github.com/itechsmart/operator/workloads/vault/client"
)

// TestCheckAndSetHasOneWinner: in every round all writers know the same version.
func TestCheckAndSetHasOneWinner(t *testing.T) {
	v, pool := newVault(t)
	vaults := []Vault{v, replica(t, pool, namespace)}
	mustCreate(t, v, "a", "0")
	const writers, rounds = 12, 15
	for round := range int64(rounds) {
		var won atomic.Int64
		var winner atomic.Value
		var group sync.WaitGroup
		for w := range writers {
			group.Go(func() {
				value := fmt.Sprintf("%d by %d", round, w)
				_, err := vaults[w%2].Put(t.Context(), "a", wire.Write{Value: text(value), CheckAndSet: ptr(round + 1)}, "ada")
				switch {
				case err == nil:
					won.Add(1)
					winner.Store(value)
				case !errors.Is(err, ErrStale):
					t.Error(err)
				}
			})
		}
		group.Wait()
		if won.Load() != 1 {
			t.Fatalf("round %d: %d winners", round, won.Load())
		}
		wantText(t, v, "a", round+2, winner.Load().(string))
	}
	if s, err := v.Get(t.Context(), "a"); err != nil || s.Version != rounds+1 {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestNoWriteIsLost checks that writers without check-and-set all succeed, each with a version of its own.
func TestNoWriteIsLost(t *testing.T) {
	v, _ := newVault(t)
	mustCreate(t, v, "a", "0")
	const writers, each = 12, 10
	var group sync.WaitGroup
	var written sync.Map
	for w := range writers {
		group.Go(func() {
			for i := range each {
				value := fmt.Sprintf("%d by %d", i, w)
				s, err := v.Put(t.Context(), "a", textWrite(value), "ada")
				if err != nil {
					t.Error(err)
					return
				}
				if _, twice := written.LoadOrStore(s.Version, value); twice {
					t.Errorf("version %d was returned twice", s.Version)
				}
			}
		})
	}
	group.Wait()
	for version := int64(2); version <= writers*each+1; version++ {
		value, ok := written.Load(version)
		if !ok {
			t.Fatalf("version %d is missing", version)
		}
		wantText(t, v, "a", version, value.(string))
	}
}

func TestCreateHasOneWinner(t *testing.T) {
	v, pool := newVault(t)
	var won atomic.Int64
	var group sync.WaitGroup
	for w := range 12 {
		group.Go(func() {
			switch _, err := v.Create(t.Context(), "a", textWrite(fmt.Sprint(w)), "ada"); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, ErrExists):
				t.Error(err)
			}
		})
	}
	group.Wait()
	var keys int
	if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM data_keys`).Scan(&keys); err != nil || won.Load() != 1 || keys != 1 {
		t.Errorf("%d winners, %d data keys, %v", won.Load(), keys, err)
	}
}

// TestDestroyWhileWriting destroys and creates a secret under its writers; the final state must open.
func TestDestroyWhileWriting(t *testing.T) {
	v, pool := newVault(t)
	var group sync.WaitGroup
	for w := range 6 {
		group.Go(func() {
			for i := range 20 {
				var err error
				switch (w + i) % 3 {
				case 0:
					_, err = v.Create(t.Context(), "a", textWrite("x"), "ada")
				case 1:
					_, err = v.Put(t.Context(), "a", textWrite("x"), "ada")
				case 2:
					err = v.Destroy(t.Context(), "a")
				}
				if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrExists) {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	checkWhole(t, pool, v)
}

// checkWhole checks that every version of every secret (with a prefix) exists and opens, and that no data key is left
// over. It returns the values of the live ones.
func checkWhole(t testing.TB, pool *pgxpool.Pool, v Vault, prefix ...string) map[string][]string {
	t.Helper()
	values := map[string][]string{}
	list, more, err := v.List(t.Context(), ListOptions{Limit: maxLimit, Prefix: strings.Join(prefix, "")})
	if err != nil || more {
		t.Fatal(err)
	}
	for _, s := range list {
		for version := int64(1); version <= s.Version; version++ {
			value, err := textOrSize(t, v, s.Path, version)
			if errors.Is(err, ErrDeleted) || errors.Is(err, ErrDestroyed) {
				continue
			}
			if err != nil {
				t.Errorf("%s@%d: %v", s.Path, version, err)
				continue
			}
			values[s.Path] = append(values[s.Path], value)
		}
	}
	var beyond, orphans, keyless, parts int
	err = pool.QueryRow(t.Context(), `SELECT
		(SELECT count(*) FROM versions v JOIN secrets s ON s.id = v.secret_id WHERE v.version > s.version),
		(SELECT count(*) FROM data_keys k WHERE k.purpose = 'secret' AND NOT EXISTS (SELECT FROM secrets s WHERE s.data_key_id = k.id)),
		(SELECT count(*) FROM data_keys k WHERE k.purpose = 'sealing' AND NOT EXISTS (SELECT FROM sealing_keys s WHERE s.data_key_id = k.id)),
		(SELECT count(*) FROM chunks c WHERE NOT EXISTS (SELECT FROM versions v WHERE v.content_id = c.content_id))`).
		Scan(&beyond, &orphans, &keyless, &parts)
	if err != nil || beyond+orphans+keyless+parts != 0 {
		t.Errorf("%d versions beyond the newest, %d data keys without a secret, %d without a sealing key, %d parts without a version, %v", beyond, orphans, keyless, parts, err)
	}
	return values
}

// textOrSize returns a text, or the number of bytes of a file.
func textOrSize(t testing.TB, v Vault, path string, version int64) (string, error) {
	t.Helper()
	read, err := v.Read(t.Context(), path, version)
	if !errors.Is(err, ErrStreamed) {
		return string(read.Value[wire.FieldText]), err
	}
	content, err := v.Content(t.Context(), path, version)
	if err != nil {
		return "", err
	}
	defer content.Close()
	n, err := io.Copy(io.Discard, content)
	return fmt.Sprint(n), err
}

// TestManyVersions checks that the database reads as many blocks for a secret of 1,000 versions as for one of ten.
func TestManyVersions(t *testing.T) {
	v, pool := newVault(t)
	for path, n := range map[string]int{"few": 10, "many": 1000} {
		mustCreate(t, v, path, "x")
		exec(t, pool, `INSERT INTO versions (secret_id, version, data_key_id, ciphertext, created_by)
			SELECT s.id, n, s.data_key_id, v.ciphertext, 'ada' FROM secrets s JOIN versions v ON v.secret_id = s.id AND v.version = 1, generate_series(2, $2::int) n
			WHERE s.path = $1`, path, n-1)
		exec(t, pool, `UPDATE secrets SET version = $2 WHERE path = $1`, path, n-1)
		mustPut(t, v, path, "newest")
		wantText(t, v, path, 0, "newest")
	}
	exec(t, pool, `ANALYZE`)
	for name, q := range map[string]struct {
		sql  string
		args func(path string) []any
	}{
		"read the newest": {versionQuery, func(path string) []any { return []any{namespace, path, 0} }},
		"read the fifth":  {versionQuery, func(path string) []any { return []any{namespace, path, 5} }},
		"list versions":   {versionsQuery, func(path string) []any { return []any{namespace, path, 0, 5} }},
		"get":             {secretQuery + `WHERE s.namespace = $1 AND s.path = $2`, func(path string) []any { return []any{namespace, path} }},
	} {
		few, many := blocks(t, pool, q.sql, q.args("few")...), blocks(t, pool, q.sql, q.args("many")...)
		if few == 0 || many > few+4 { // the index of versions is at most one level deeper
			t.Errorf("%s: %d blocks with 1,000 versions, %d with ten", name, many, few)
		}
	}
}

func blocks(t testing.TB, pool *pgxpool.Pool, sql string, args ...any) int {
	t.Helper()
	var plans []struct {
		Plan struct {
			Hit  int `json:"Shared Hit Blocks"`
			Read int `json:"Shared Read Blocks"`
		}
	}
	var data []byte
	if err := pool.QueryRow(t.Context(), `EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) `+sql, args...).Scan(&data); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &plans); err != nil {
		t.Fatal(err)
	}
	return plans[0].Plan.Hit + plans[0].Plan.Read
}
