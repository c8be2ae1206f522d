// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	wire "github.com/itechsmart/operator/workloads/vault/client"
)

// file returns a content of the given size, the same for the same seed.
func file(seed byte, size int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{seed}), size)
}

func digest(t testing.TB, in io.Reader) (sum [32]byte, size int64) {
	t.Helper()
	h := sha256.New()
	size, err := io.Copy(h, in)
	if err != nil {
		t.Fatal(err)
	}
	return [32]byte(h.Sum(nil)), size
}

func mustUpload(t testing.TB, v Vault, path string, u Upload, in io.Reader) wire.Secret {
	t.Helper()
	s, err := v.Upload(t.Context(), path, u, in, "ada")
	if err != nil {
		t.Fatalf("upload %s: %v", path, err)
	}
	return s
}

// wantFile reads a content in small steps, and compares it with what was written.
func wantFile(t testing.TB, v Vault, path string, version int64, seed byte, size int64) {
	t.Helper()
	c, err := v.Content(t.Context(), path, version)
	if err != nil {
		t.Fatalf("open %s@%d: %v", path, version, err)
	}
	defer c.Close()
	got, n := digest(t, struct{ io.Reader }{c})
	want, _ := digest(t, file(seed, size))
	if n != size || c.Size != size || got != want {
		t.Fatalf("%s@%d differs from the file that was written: %d bytes, size %d, want %d", path, version, n, c.Size, size)
	}
}

func rowsOf(t testing.TB, pool *pgxpool.Pool, table string) (n int64) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM `+table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

const mib = 1 << 20

func TestContentSizes(t *testing.T) {
	v, pool := newVault(t)
	for i, size := range []int64{0, 1, mib, mib + 1, 5*chunkBytes - 1, 5 * chunkBytes, 5*chunkBytes + 1} {
		path, seed := fmt.Sprintf("f%d", i), byte(i)
		before := rowsOf(t, pool, "chunks")
		s := mustUpload(t, v, path, Upload{}, file(seed, size))
		parts := rowsOf(t, pool, "chunks") - before
		if s.Version != 1 || s.Type != wire.TypeFile || (size > mib) != (parts > 0) || (s.Size == size) != (parts > 0) && size > 0 {
			t.Errorf("%d bytes: %+v in %d parts", size, s, parts)
		}
		wantFile(t, v, path, 0, seed, size)
		read, err := v.Read(t.Context(), path, 0)
		if parts > 0 {
			wantErr(t, "a large file as a value", err, ErrStreamed)
		} else if err != nil || int64(len(read.Value[wire.FieldFile])) != size {
			t.Errorf("a small file as a value: %d bytes, %v", len(read.Value[wire.FieldFile]), err)
		}
	}
}

// lowHeap is a file that records the memory in use while it is read.
type lowHeap struct {
	io.Reader
	highest uint64
	reads   int
}

func (l *lowHeap) Read(p []byte) (int, error) {
	if l.reads++; l.reads%16 == 0 {
		l.look()
	}
	return l.Reader.Read(p[:min(len(p), 64<<10)])
}

func (l *lowHeap) look() {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	l.highest = max(l.highest, m.HeapAlloc)
}

// 20 MiB are written and read, without ever being in memory as a whole.
func TestContentMemory(t *testing.T) {
	v, _ := newVault(t)
	const size = 20 * mib
	mustUpload(t, v, "warm", Upload{}, file(1, 2*mib)) // ignore what only the first one allocates
	base := &lowHeap{}
	runtime.GC() // frees what finalizers released
	base.look()
	in := &lowHeap{Reader: file(1, size)}
	if s := mustUpload(t, v, "a", Upload{Filename: "a.bin"}, in); s.Size != size {
		t.Errorf("stored %+v", s)
	}
	c, err := v.Content(t.Context(), "a", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	out := &lowHeap{Reader: c}
	if got, n := digest(t, out); n != size || c.Filename != "a.bin" {
		t.Errorf("%d bytes, name %q", n, c.Filename)
	} else if want, _ := digest(t, file(1, size)); got != want {
		t.Error("another file was read")
	}
	for what, x := range map[string]*lowHeap{"upload": in, "download": out} {
		grown := int64(x.highest) - int64(base.highest)
		t.Logf("%s: the heap grew by at most %d KiB", what, grown>>10)
		if x.reads < 100 || grown > 6*mib {
			t.Errorf("%s: the heap grew by %d bytes in %d reads", what, grown, x.reads)
		}
	}
}

// broken is a content that ends in an error, as the body of a client that disconnects does.
type broken struct {
	io.Reader
	err error
}

func (b broken) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		err = b.err
	}
	return n, err
}

// An incomplete upload stores nothing: no part, no version, no secret.
func TestContentNotStored(t *testing.T) {
	pool := openPool(t)
	o := options(namespace)
	o.MaxFileBytes = 3 * mib
	v := New(pool, o)
	if err := v.Open(t.Context(), []byte(passphrase)); err != nil {
		t.Fatal(err)
	}
	mustUpload(t, v, "kept", Upload{}, file(1, 2*mib))
	mustCreate(t, v, "text", "x")
	chunks := rowsOf(t, pool, "chunks")
	canceled, cancel := context.WithCancel(t.Context())
	for name, c := range map[string]struct {
		path   string
		upload Upload
		in     io.Reader
		ctx    context.Context
		err    error
		field  string
	}{
		"truncated within the first part": {"a", Upload{}, broken{file(2, 1000), io.ErrUnexpectedEOF}, t.Context(), io.ErrUnexpectedEOF, ""},
		"truncated between parts":         {"a", Upload{}, broken{file(2, 6*chunkBytes), io.ErrUnexpectedEOF}, t.Context(), io.ErrUnexpectedEOF, ""},
		"truncated within a part":         {"kept", Upload{}, broken{file(2, 2*mib+7), io.ErrUnexpectedEOF}, t.Context(), io.ErrUnexpectedEOF, ""},
		"aborted": {"a", Upload{}, readerFunc(func(p []byte) (int, error) {
			cancel()
			return len(p), nil
		}), canceled, context.Canceled, ""},
		"over the limit":                 {"a", Upload{}, file(2, 3*mib+1), t.Context(), ErrInvalid, "content"},
		"over the limit, endless":        {"kept", Upload{}, rand.NewChaCha8([32]byte{}), t.Context(), ErrInvalid, "content"},
		"another type":                   {"text", Upload{}, file(2, 2*mib), t.Context(), ErrInvalid, "type"},
		"another type, small":            {"text", Upload{}, file(2, 10), t.Context(), ErrInvalid, "type"},
		"stale":                          {"kept", Upload{CheckAndSet: ptr(int64(7))}, file(2, 2*mib), t.Context(), ErrStale, ""},
		"stale, small":                   {"kept", Upload{CheckAndSet: ptr(int64(7))}, file(2, 10), t.Context(), ErrStale, ""},
		"there already":                  {"kept", Upload{CheckAndSet: ptr(int64(0))}, file(2, 2*mib), t.Context(), ErrExists, ""},
		"existing, small":                {"kept", Upload{CheckAndSet: ptr(int64(0))}, file(2, 10), t.Context(), ErrExists, ""},
		"not there":                      {"a", Upload{Replace: true}, file(2, 2*mib), t.Context(), ErrNotFound, ""},
		"missing, small":                 {"a", Upload{Replace: true}, file(2, 10), t.Context(), ErrNotFound, ""},
		"no version of a missing secret": {"a", Upload{CheckAndSet: ptr(int64(1))}, file(2, 2*mib), t.Context(), ErrNotFound, ""},
		"a path":                         {"../a", Upload{}, file(2, 2*mib), t.Context(), ErrInvalid, "path"},
		"a name":                         {"a", Upload{Filename: "a/b"}, file(2, 2*mib), t.Context(), ErrInvalid, "filename"},
		"metadata":                       {"a", Upload{Metadata: map[string]string{"": ""}}, file(2, 2*mib), t.Context(), ErrInvalid, "metadata"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := v.Upload(c.ctx, c.path, c.upload, c.in, "eve")
			wantErr(t, "upload", err, c.err)
			if c.field != "" {
				wantField(t, "upload", err, c.field)
			}
			if now := rowsOf(t, pool, "chunks"); now != chunks {
				t.Errorf("%d parts are left over", now-chunks)
			}
			if n := rowsOf(t, pool, "versions"); n != 2 || rowsOf(t, pool, "secrets") != 2 {
				t.Errorf("%d versions", n)
			}
		})
	}
	v.Seal()
	_, err := v.Upload(t.Context(), "a", Upload{}, file(2, 10), "ada")
	wantErr(t, "sealed", err, ErrSealed)
	_, err = v.Content(t.Context(), "kept", 0)
	wantErr(t, "sealed", err, ErrSealed)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// Another writer is faster, or the vault is at its limit of uploads.
func TestContentRaces(t *testing.T) {
	pool := openPool(t)
	o := options(namespace)
	o.Uploads = 1
	v := New(pool, o)
	if err := v.Open(t.Context(), []byte(passphrase)); err != nil {
		t.Fatal(err)
	}
	mustUpload(t, v, "a", Upload{}, file(1, 10))
	meanwhile := func(do func()) io.Reader {
		return io.MultiReader(file(2, 2*mib), readerFunc(func([]byte) (int, error) { do(); return 0, io.EOF }))
	}
	_, err := v.Upload(t.Context(), "a", Upload{}, meanwhile(func() { mustUpload(t, v, "a", Upload{}, file(1, 11)) }), "eve")
	wantErr(t, "a concurrent version", err, ErrChanged)
	_, err = v.Upload(t.Context(), "b", Upload{}, meanwhile(func() { mustUpload(t, v, "b", Upload{}, file(1, 11)) }), "eve")
	wantErr(t, "a concurrent secret", err, ErrChanged)
	_, err = v.Upload(t.Context(), "a", Upload{}, meanwhile(func() {
		if err := v.Destroy(t.Context(), "a"); err != nil {
			t.Error(err)
		}
	}), "eve")
	wantErr(t, "destroyed meanwhile", err, ErrChanged)
	var second error
	mustUpload(t, v, "c", Upload{}, meanwhile(func() { _, second = v.Upload(t.Context(), "d", Upload{}, file(1, 2*mib), "eve") }))
	wantErr(t, "a second large file", second, ErrBusy)
	if n := rowsOf(t, pool, "chunks"); n != 8 {
		t.Errorf("%d parts, want those of c", n)
	}
	// A root key that another replica creates during an upload is loaded.
	mustUpload(t, v, "e", Upload{}, meanwhile(func() {
		if _, err := replica(t, pool, namespace).RotateRoot(t.Context(), []byte(passphrase)); err != nil {
			t.Error(err)
		}
	}))
	wantFile(t, v, "e", 0, 2, 2*mib)
}

func TestContentLifecycle(t *testing.T) {
	v, pool := newVault(t)
	ctx := t.Context()
	mustUpload(t, v, "a", Upload{Filename: "one", Metadata: map[string]string{"k": "v"}}, file(1, 2*mib))
	mustUpload(t, v, "a", Upload{Filename: "one"}, file(1, 2*mib))
	mustUpload(t, v, "a", Upload{CheckAndSet: ptr(int64(2)), Replace: true}, file(2, 2*mib+1))
	mustUpload(t, v, "a", Upload{}, file(3, 100))
	changes := func(from, to int64) string {
		t.Helper()
		diff, err := v.Diff(ctx, "a", from, to)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, d := range diff {
			out = append(out, d.Field+" "+d.Change)
		}
		return strings.Join(out, ", ")
	}
	for versions, want := range map[[2]int64]string{
		{0, 1}: "file added, filename added", {1, 2}: "file same, filename same", {2, 3}: "file changed, filename removed", {3, 4}: "file changed",
	} {
		if got := changes(versions[0], versions[1]); got != want {
			t.Errorf("%v: %s, want %s", versions, got, want)
		}
	}
	back, err := v.Rollback(ctx, "a", 1, "eve")
	if err != nil || back.Version != 5 || back.Size != 2*mib || back.Metadata["k"] != "v" {
		t.Fatalf("rolled back: %+v, %v", back, err)
	}
	if got := changes(1, 5); got != "file same, filename same" {
		t.Errorf("rolled back: %s", got)
	}
	versions, _, err := v.Versions(ctx, "a", VersionsOptions{})
	if err != nil || len(versions) != 5 || versions[0].Size != 2*mib || versions[1].Size != 0 || versions[2].Size != 2*mib+1 || versions[0].CreatedBy != "eve" {
		t.Errorf("%+v, %v", versions, err)
	}
	if err := v.DeleteVersion(ctx, "a", 3); err != nil {
		t.Fatal(err)
	}
	_, err = v.Content(ctx, "a", 3)
	wantErr(t, "deleted", err, ErrDeleted)
	if err := v.UndeleteVersion(ctx, "a", 3); err != nil {
		t.Fatal(err)
	}
	wantFile(t, v, "a", 3, 2, 2*mib+1)
	before := rowsOf(t, pool, "chunks")
	if err := v.DestroyVersion(ctx, "a", 3); err != nil {
		t.Fatal(err)
	}
	_, err = v.Content(ctx, "a", 3)
	wantErr(t, "destroyed", err, ErrDestroyed)
	if gone := before - rowsOf(t, pool, "chunks"); gone != 9 {
		t.Errorf("%d parts were removed", gone)
	}
	// Only the key of the parts is wrapped again.
	if _, err := v.RotateRoot(ctx, []byte(passphrase)); err != nil {
		t.Fatal(err)
	}
	if err := v.Rewrap(ctx); err != nil {
		t.Fatal(err)
	}
	for _, reader := range []Vault{v, replica(t, pool, namespace)} {
		wantFile(t, reader, "a", 1, 1, 2*mib)
		wantFile(t, reader, "a", 0, 1, 2*mib)
	}
	// A resource that declares a small value replaces a large one.
	applies(t, v, "a", wire.Apply{Type: wire.TypeFile, Name: "a", SourceHash: "h", Value: wire.Value{wire.FieldFile: []byte("x")}}, 6, true)
	if err := v.Destroy(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if n := rowsOf(t, pool, "chunks"); n != 0 {
		t.Errorf("%d parts outlive their secret", n)
	}
}

// TestContentDestroyedWhileRead checks that destroying a content is not reported as damage, and that a re-wrap does not affect
// a reader.
func TestContentDestroyedWhileRead(t *testing.T) {
	for name, c := range map[string]struct {
		meanwhile func(t *testing.T, v Vault, pool *pgxpool.Pool)
		err       error
	}{
		"version destroyed": {func(t *testing.T, v Vault, _ *pgxpool.Pool) { must(t, v.DestroyVersion(t.Context(), "a", 1)) }, ErrDestroyed},
		"secret destroyed":  {func(t *testing.T, v Vault, _ *pgxpool.Pool) { must(t, v.Destroy(t.Context(), "a")) }, ErrNotFound},
		"another one at its path": {func(t *testing.T, v Vault, _ *pgxpool.Pool) {
			must(t, v.Destroy(t.Context(), "a"))
			mustUpload(t, v, "a", Upload{}, file(2, 2*mib))
		}, ErrDestroyed},
		"re-wrapped": {func(t *testing.T, v Vault, _ *pgxpool.Pool) {
			must(t, failed(v.RotateRoot(t.Context(), []byte(passphrase))))
			must(t, v.Rewrap(t.Context()))
		}, nil},
		"damaged": {func(t *testing.T, _ Vault, pool *pgxpool.Pool) { exec(t, pool, "DELETE FROM chunks") }, ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			v, pool := newVault(t)
			mustUpload(t, v, "a", Upload{}, file(1, 2*mib))
			content, err := v.Content(t.Context(), "a", 0)
			if err != nil {
				t.Fatal(err)
			}
			defer content.Close()
			c.meanwhile(t, v, pool)
			if n, err := io.Copy(io.Discard, content); !errors.Is(err, c.err) || (n == 2*mib) != (c.err == nil) {
				t.Errorf("%d bytes, %v, want %v", n, err, c.err)
			}
		})
	}
}

// TestTamperedContent is an attacker who may write to the database. The damage is detected before the first byte, or else
// before the last: a modified file never looks complete.
func TestTamperedContent(t *testing.T) {
	for name, c := range map[string]struct {
		sql   string
		early bool // detected by Content itself
	}{
		"two parts swapped":                 {`UPDATE chunks SET number = CASE number WHEN 2 THEN 103 ELSE 102 END WHERE content_id = $1 AND number IN (2, 3); UPDATE chunks SET number = number - 100 WHERE number > 100`, false},
		"the first two swapped":             {`UPDATE chunks SET number = 101 - number WHERE content_id = $1 AND number < 2; UPDATE chunks SET number = number - 100 WHERE number > 99`, true},
		"one part over another":             {`UPDATE chunks SET ciphertext = (SELECT ciphertext FROM chunks WHERE content_id = $1 AND number = 1) WHERE content_id = $1 AND number = 4`, false},
		"a part of an older version":        {`UPDATE chunks c SET ciphertext = o.ciphertext FROM chunks o WHERE c.content_id = $1 AND o.content_id = $2 AND c.number = 3 AND o.number = 3`, false},
		"all parts of an older version":     {`UPDATE chunks c SET ciphertext = o.ciphertext FROM chunks o WHERE c.content_id = $1 AND o.content_id = $2 AND c.number = o.number`, true},
		"parts of another secret":           {`UPDATE chunks c SET ciphertext = o.ciphertext FROM chunks o WHERE c.content_id = $1 AND o.content_id = $3 AND c.number = o.number`, true},
		"a bit flipped":                     {`UPDATE chunks SET ciphertext = set_bit(ciphertext, 1000, 1 - get_bit(ciphertext, 1000)) WHERE content_id = $1 AND number = 5`, false},
		"a bit flipped in the first":        {`UPDATE chunks SET ciphertext = set_bit(ciphertext, 1000, 1 - get_bit(ciphertext, 1000)) WHERE content_id = $1 AND number = 0`, true},
		"the last part gone":                {`DELETE FROM chunks WHERE content_id = $1 AND number = 8`, true},
		"a part gone":                       {`DELETE FROM chunks WHERE content_id = $1 AND number = 3`, true},
		"all gone":                          {`DELETE FROM chunks WHERE content_id = $1`, true},
		"a part cut":                        {`UPDATE chunks SET ciphertext = substring(ciphertext FROM 1 FOR length(ciphertext) - 1) WHERE content_id = $1 AND number = 4`, true},
		"cut, and another longer":           {`UPDATE chunks SET ciphertext = substring(ciphertext FROM 1 FOR length(ciphertext) - 1) WHERE content_id = $1 AND number = 4; UPDATE chunks SET ciphertext = ciphertext || '\x00' WHERE content_id = $1 AND number = 8`, false},
		"a part more":                       {`INSERT INTO chunks SELECT content_id, 9, ciphertext FROM chunks WHERE content_id = $1 AND number = 8`, true},
		"the last part repeated":            {`UPDATE chunks SET ciphertext = (SELECT ciphertext FROM chunks WHERE content_id = $1 AND number = 8) WHERE content_id = $1 AND number = 7`, true},
		"the content of an older version":   {`UPDATE versions SET content_id = $2 WHERE content_id = $1; DELETE FROM chunks WHERE content_id = $1`, true},
		"the manifest of an older version":  {`UPDATE versions v SET ciphertext = o.ciphertext FROM versions o WHERE v.content_id = $1 AND o.content_id = $2`, true},
		"the manifest of another secret":    {`UPDATE versions v SET ciphertext = o.ciphertext, data_key_id = o.data_key_id FROM versions o WHERE v.content_id = $1 AND o.content_id = $3`, true},
		"the manifest with a bit flipped":   {`UPDATE versions SET ciphertext = set_bit(ciphertext, 200, 1 - get_bit(ciphertext, 200)) WHERE content_id = $1`, true},
		"the version renumbered":            {`UPDATE secrets SET version = 7 WHERE path = 'a'; UPDATE versions SET version = 7 WHERE content_id = $1`, true},
		"the secret renamed, with its keys": {`UPDATE secrets SET path = 'z' WHERE path = 'a'; UPDATE secrets SET path = 'a' WHERE path = 'b'; UPDATE data_keys SET subject = CASE subject WHEN 'a' THEN 'b' ELSE 'a' END WHERE purpose = 'secret'`, true},
	} {
		t.Run(name, func(t *testing.T) {
			v, pool := newVault(t)
			mustUpload(t, v, "a", Upload{}, file(1, 8*chunkBytes+5))
			mustUpload(t, v, "a", Upload{}, file(2, 8*chunkBytes+5))
			mustUpload(t, v, "b", Upload{}, file(3, 8*chunkBytes+5))
			ids := map[string]string{}
			for i, where := range []string{"s.path = 'a' AND v.version = 2", "s.path = 'a' AND v.version = 1", "s.path = 'b'"} {
				var id string
				if err := pool.QueryRow(t.Context(), `SELECT content_id::text FROM versions v JOIN secrets s ON s.id = v.secret_id WHERE `+where).Scan(&id); err != nil {
					t.Fatal(err)
				}
				ids[fmt.Sprintf("$%d", i+1)] = "'" + id + "'"
			}
			sql := c.sql
			for name, id := range ids {
				sql = strings.ReplaceAll(sql, name, id)
			}
			if exec(t, pool, sql) == 0 {
				t.Fatal("the attack changed nothing")
			}
			content, err := v.Content(t.Context(), "a", 0)
			if c.early != (err != nil) {
				t.Errorf("detected before the first byte: %v (%v), want %v", err != nil, err, c.early)
			}
			if err == nil {
				defer content.Close()
				var got []byte
				if got, err = io.ReadAll(content); int64(len(got)) >= content.Size {
					t.Errorf("%d bytes were returned", len(got))
				}
				want, readErr := io.ReadAll(file(2, int64(len(got))))
				if readErr != nil || !bytes.Equal(got, want) {
					t.Error("the returned bytes are not those written")
				}
				if _, again := io.ReadAll(content); again == nil {
					t.Error("reading on reaches an end")
				}
			}
			wantErr(t, "read", err, ErrCorrupt)
			_, err = v.Rollback(t.Context(), "a", 2, "eve")
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNotFound) {
				t.Errorf("roll back: %v", err)
			}
		})
	}
}
