// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"strings"
	"testing"
	"time"

	wire "github.com/itechsmart/operator/workloads/vault/client"
)

func TestWriteAndRead(t *testing.T) {
	v, _ := newVault(t)
	expiry := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	created, err := v.Create(t.Context(), "db/password", wire.Write{Type: wire.TypeText, Value: text("one"),
		Metadata: map[string]string{"owner": "ada"}, ExpiresAt: &expiry}, "ada")
	if err != nil {
		t.Fatal(err)
	}
	got, err := v.Get(t.Context(), "db/password")
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got.Version, got.Versions, got.Type, got.Metadata, got.KeyID, got.State) !=
		fmt.Sprint(1, 1, wire.TypeText, map[string]string{"owner": "ada"}, created.KeyID, wire.StateLive) ||
		!got.CreatedAt.Equal(created.CreatedAt) || !got.ExpiresAt.Equal(expiry) || got.KeyStale {
		t.Errorf("got %+v, created %+v", got, created)
	}
	wantText(t, v, "db/password", 0, "one")

	second, err := v.Put(t.Context(), "db/password", wire.Write{Value: text("two"), CheckAndSet: ptr(int64(1))}, "bob")
	if err != nil || second.Version != 2 || !second.CreatedAt.Equal(created.CreatedAt) || second.UpdatedAt.Before(created.UpdatedAt) {
		t.Fatalf("put: %+v, %v", second, err)
	}
	wantText(t, v, "db/password", 1, "one")
	wantText(t, v, "db/password", 2, "two")
	wantText(t, v, "db/password", 0, "two")

	list, more, err := v.Versions(t.Context(), "db/password", VersionsOptions{})
	if err != nil || more || len(list) != 2 || list[0].Version != 2 || list[0].CreatedBy != "bob" || list[1].Metadata["owner"] != "ada" {
		t.Errorf("versions: %+v, %v, %v", list, more, err)
	}
}

func TestRefusals(t *testing.T) {
	v, _ := newVault(t)
	mustCreate(t, v, "a", "one")
	mustPut(t, v, "a", "two")
	ctx := t.Context()

	_, err := v.Create(ctx, "a", textWrite("x"), "ada")
	wantErr(t, "create an existing secret", err, ErrExists)
	_, err = v.Create(ctx, "b", wire.Write{Type: wire.TypeText, Value: text("x"), CheckAndSet: ptr(int64(3))}, "ada")
	wantErr(t, "create with a version", err, ErrStale)
	_, err = v.Put(ctx, "b", textWrite("x"), "ada")
	wantErr(t, "put a missing secret", err, ErrNotFound)
	for _, cas := range []int64{0, 1, 3, -1} {
		_, err = v.Put(ctx, "a", wire.Write{Value: text("x"), CheckAndSet: &cas}, "ada")
		wantErr(t, fmt.Sprintf("check-and-set %d", cas), err, ErrStale)
	}
	_, err = v.Put(ctx, "a", wire.Write{Type: wire.TypeAPIKey, Value: wire.Value{wire.FieldKey: []byte("x")}}, "ada")
	wantField(t, "another type", err, "type")
	_, err = v.Put(ctx, "a", wire.Write{Value: text("\xff")}, "ada")
	wantField(t, "not UTF-8", err, "value.text")
	_, err = v.Put(ctx, "a", wire.Write{Value: text(strings.Repeat("x", wire.MaxValueBytes+1))}, "ada")
	wantField(t, "too large", err, "value")
	_, err = v.Put(ctx, "a", wire.Write{Value: text("x"), Metadata: map[string]string{"a b": "c"}}, "ada")
	wantField(t, "metadata name", err, "metadata")
	_, err = v.Put(ctx, "a", wire.Write{Value: text("x"), Metadata: map[string]string{"a": "c\x00"}}, "ada")
	wantField(t, "metadata value", err, "metadata.a")
	_, err = v.Read(ctx, "a", 3)
	wantErr(t, "a missing version", err, ErrNotFound)
	_, err = v.Read(ctx, "a", -1)
	wantField(t, "a negative version", err, "version")
	_, err = v.Rotate(ctx, "a", "ada")
	wantErr(t, "rotate a secret that is not generated", err, ErrNotGenerated)
	_, _, err = v.Versions(ctx, "b", VersionsOptions{})
	wantErr(t, "versions of a missing secret", err, ErrNotFound)
	_, _, err = v.List(ctx, ListOptions{Prefix: "A%"})
	wantField(t, "prefix", err, "prefix")
	_, _, err = v.List(ctx, ListOptions{After: "a\x00"})
	wantField(t, "after", err, "after")
	_, _, err = v.List(ctx, ListOptions{Type: "Text\x00"})
	wantField(t, "type", err, "type")
	_, _, err = v.List(ctx, ListOptions{Limit: 1001})
	wantField(t, "limit", err, "limit")

	for _, path := range []string{"", "/", "a/", "/a", "a//b", "../a", "a/../b", "a/./b", "A", "a b", "a\x00", "é", ".a", "a.", "-a", "a%2fb",
		strings.Repeat("a", 254)} {
		_, err := v.Create(ctx, path, textWrite("x"), "ada")
		wantField(t, fmt.Sprintf("path %q", path), err, "path")
		_, err = v.Read(ctx, path, 0)
		wantField(t, fmt.Sprintf("path %q", path), err, "path")
	}
	if list, _, err := v.List(ctx, ListOptions{}); err != nil || len(list) != 1 || list[0].Version != 2 {
		t.Errorf("refused requests changed something: %+v, %v", list, err)
	}
}

func TestLifecycle(t *testing.T) {
	v, pool := newVault(t)
	ctx := t.Context()
	mustCreate(t, v, "a", "one")
	mustPut(t, v, "a", "two")
	mustPut(t, v, "a", "three")

	for range 2 { // each may be repeated
		if err := v.DeleteVersion(ctx, "a", 2); err != nil {
			t.Fatal(err)
		}
	}
	_, err := v.Read(ctx, "a", 2)
	wantErr(t, "read deleted", err, ErrDeleted)
	_, err = v.Rollback(ctx, "a", 2, "ada")
	wantErr(t, "roll back to a deleted version", err, ErrDeleted)
	if err := v.UndeleteVersion(ctx, "a", 2); err != nil {
		t.Fatal(err)
	}
	wantText(t, v, "a", 2, "two")

	for range 2 {
		if err := v.DestroyVersion(ctx, "a", 2); err != nil {
			t.Fatal(err)
		}
	}
	_, err = v.Read(ctx, "a", 2)
	wantErr(t, "read destroyed", err, ErrDestroyed)
	wantErr(t, "undelete destroyed", v.UndeleteVersion(ctx, "a", 2), ErrDestroyed)
	wantErr(t, "delete destroyed", v.DeleteVersion(ctx, "a", 2), ErrDestroyed)
	wantErr(t, "destroy a missing version", v.DestroyVersion(ctx, "a", 9), ErrNotFound)
	var left int
	if err := pool.QueryRow(ctx, `SELECT count(*) FROM versions WHERE version = 2 AND ciphertext IS NOT NULL`).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d destroyed versions keep their ciphertext, %v", left, err)
	}

	if err := v.Delete(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	for version, want := range map[int64]error{0: ErrDeleted, 1: ErrDeleted, 2: ErrDestroyed, 3: ErrDeleted} {
		_, err = v.Read(ctx, "a", version)
		wantErr(t, fmt.Sprintf("read version %d of a deleted secret", version), err, want)
	}
	if s, err := v.Get(ctx, "a"); err != nil || s.State != wire.StateDeleted || s.Versions != 3 {
		t.Errorf("a deleted secret is %+v, %v", s, err)
	}
	if s := mustPut(t, v, "a", "four"); s.Version != 4 {
		t.Errorf("version %d after a deletion, want 4", s.Version)
	}

	if err := v.Destroy(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	_, err = v.Get(ctx, "a")
	wantErr(t, "get a destroyed secret", err, ErrNotFound)
	wantErr(t, "destroy again", v.Destroy(ctx, "a"), ErrNotFound)
	wantErr(t, "delete a destroyed secret", v.Delete(ctx, "a"), ErrNotFound)
	var keys int
	if err := pool.QueryRow(ctx, `SELECT count(*) FROM data_keys`).Scan(&keys); err != nil || keys != 0 {
		t.Errorf("%d data keys outlive their secret, %v", keys, err)
	}
	mustCreate(t, v, "a", "new")
	wantText(t, v, "a", 1, "new")
}

func TestRollback(t *testing.T) {
	v, _ := newVault(t)
	if _, err := v.Create(t.Context(), "a", wire.Write{Type: wire.TypeText, Value: text("one"), Metadata: map[string]string{"k": "1"}}, "ada"); err != nil {
		t.Fatal(err)
	}
	mustPut(t, v, "a", "two")
	s, err := v.Rollback(t.Context(), "a", 1, "bob")
	if err != nil || s.Version != 3 || s.Metadata["k"] != "1" {
		t.Fatalf("rollback: %+v, %v", s, err)
	}
	wantText(t, v, "a", 0, "one")
	wantText(t, v, "a", 2, "two")
}

func TestList(t *testing.T) {
	v, pool := newVault(t)
	other := replica(t, pool, "team-b")
	mustCreate(t, other, "a/of-another-namespace", "x")
	want := []string{"a", "a-b", "a.b", "a/1", "a/2", "a/b/c", "a0", "ab", "b"}
	for i := range want { // in another order
		mustCreate(t, v, want[(i*4+3)%len(want)], "x")
	}
	if _, err := v.Create(t.Context(), "key", wire.Write{Type: wire.TypeAPIKey, Value: wire.Value{wire.FieldKey: []byte("k")}}, "ada"); err != nil {
		t.Fatal(err)
	}
	walk := func(o ListOptions) string {
		var got []string
		for {
			list, more, err := v.List(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range list {
				got = append(got, s.Path)
			}
			if !more {
				return strings.Join(got, " ")
			}
			if len(list) != o.Limit {
				t.Fatalf("a page of %d, want %d", len(list), o.Limit)
			}
			o.After = list[len(list)-1].Path
		}
	}
	for o, want := range map[ListOptions]string{
		{}:                               strings.Join(want, " ") + " key",
		{Limit: 1}:                       strings.Join(want, " ") + " key",
		{Limit: 4}:                       strings.Join(want, " ") + " key",
		{Prefix: "a/", Limit: 2}:         "a/1 a/2 a/b/c",
		{Prefix: "a"}:                    "a a-b a.b a/1 a/2 a/b/c a0 ab",
		{Prefix: "zzz"}:                  "",
		{Type: wire.TypeAPIKey}:          "key",
		{Prefix: "a", After: "a/2"}:      "a/b/c a0 ab",
		{Type: wire.TypeText, Limit: 10}: strings.Join(want, " "),
	} {
		if got := walk(o); got != want {
			t.Errorf("%+v: %s, want %s", o, got, want)
		}
	}
}

func TestVersionsPages(t *testing.T) {
	v, _ := newVault(t)
	mustCreate(t, v, "a", "x")
	for range 9 {
		mustPut(t, v, "a", "x")
	}
	var got []int64
	o := VersionsOptions{Limit: 3}
	for {
		list, more, err := v.Versions(t.Context(), "a", o)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range list {
			got = append(got, x.Version)
		}
		if !more {
			break
		}
		o.Before = got[len(got)-1]
	}
	if fmt.Sprint(got) != "[10 9 8 7 6 5 4 3 2 1]" {
		t.Errorf("versions %v", got)
	}
}

func TestDiff(t *testing.T) {
	v, _ := newVault(t)
	ctx := t.Context()
	write := func(put bool, value wire.Value) {
		t.Helper()
		var err error
		if put {
			_, err = v.Put(ctx, "key", wire.Write{Value: value}, "ada")
		} else {
			_, err = v.Create(ctx, "key", wire.Write{Type: wire.TypeAPIKey, Value: value}, "ada")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write(false, wire.Value{wire.FieldKey: []byte("k1")})
	write(true, wire.Value{wire.FieldKey: []byte("k1"), wire.FieldID: []byte("id")})
	write(true, wire.Value{wire.FieldKey: []byte("k2"), wire.FieldID: []byte("id")})
	write(true, wire.Value{wire.FieldKey: []byte("k2")})
	write(true, wire.Value{wire.FieldKey: []byte("id")}) // the same bytes in another field
	changes := func(from, to int64) (string, []wire.FieldDiff) {
		t.Helper()
		diff, err := v.Diff(ctx, "key", from, to)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, d := range diff {
			out = append(out, d.Field+" "+d.Change)
		}
		return strings.Join(out, ", "), diff
	}
	for _, c := range []struct {
		from, to int64
		want     string
	}{{0, 1, "key added"}, {1, 2, "id added, key same"}, {2, 3, "id same, key changed"}, {0, 4, "id removed, key same"}, {1, 3, "id added, key changed"},
		{4, 0, "key changed"}, {0, 0, "key changed"}, {5, 2, "id added, key changed"}} {
		if got, _ := changes(c.from, c.to); got != c.want {
			t.Errorf("%d to %d: %s, want %s", c.from, c.to, got, c.want)
		}
	}
	_, three := changes(2, 3)
	_, five := changes(4, 5)
	if three[0].From == five[0].To {
		t.Error("equal bytes in two fields have the same MAC")
	}
	_, err := v.Diff(ctx, "key", 1, 9)
	wantErr(t, "diff with a missing version", err, ErrNotFound)
}
