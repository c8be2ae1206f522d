// SPDX-License-Identifier: Apache-2.0

// Package clienttest is the test suite of the Vault's client, for its fake and for the real service.
package clienttest

import (
	"bytes"
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest"
	vault "github.com/itechsmart/operator/workloads/vault/client"
)

// rewrapTimeout limits a re-wrap of the suite's few data keys.
const rewrapTimeout = time.Minute

// UnderTest is one namespace of one Vault, whose client has all permissions.
type UnderTest struct {
	Client    vault.Client
	Namespace string
	// Seal returns a sealed value, as `vaultctl seal` does.
	Seal func(t testing.TB, namespace, name string, value vault.Value) string
}

// Run runs the suite of vault.Client.
func Run(t *testing.T, open func(testing.TB) UnderTest) {
	v := open(t)
	for name, test := range map[string]func(*testing.T, UnderTest){
		"Versions": testVaultVersions, "CheckAndSet": testVaultCheckAndSet, "Delete": testVaultDelete, "Invalid": testVaultInvalid,
		"Generated": testVaultGenerated, "Issued": testVaultIssued, "Sealed": testVaultSealed, "Declared": testVaultDeclared,
		"Rotation": testVaultRotation, "Diff": testVaultDiff, "List": testVaultList, "RootKey": testVaultRootKey,
	} {
		t.Run(name, func(t *testing.T) { test(t, v) })
	}
	backendtest.Ended(t, func(ctx context.Context) error { _, err := v.Client.Secret(ctx, "a"); return err })
}

// vaultPath returns a path of its own for each test.
func vaultPath(suffix string) string {
	return strings.ReplaceAll(backendtest.Name("t"), "_", "-") + "/" + suffix
}

func text(value string) vault.Write {
	return vault.Write{Type: vault.TypeText, Value: vault.Value{vault.FieldText: []byte(value)}}
}

func reads(t *testing.T, c vault.Client, path string, version int64, want string) {
	t.Helper()
	got, err := c.Read(backendtest.Context(t), path, version)
	backendtest.Must(t, err)
	if string(got.Value[vault.FieldText]) != want {
		t.Fatalf("version %d of %s is not what was written", version, path)
	}
}

func testVaultVersions(t *testing.T, v UnderTest) {
	ctx, c, path := backendtest.Context(t), v.Client, vaultPath("versions")
	_, err := c.Secret(ctx, path)
	backendtest.WantIs(t, err, backend.ErrNotFound)
	_, err = c.Read(ctx, path, 0)
	backendtest.WantIs(t, err, backend.ErrNotFound)
	first := text("one")
	first.Metadata = map[string]string{"team": "a"}
	made, err := c.Create(ctx, path, first)
	backendtest.Must(t, err)
	if made.Version != 1 || made.Versions != 1 || made.Path != path || made.Namespace != v.Namespace || made.Type != vault.TypeText || made.KeyID == "" || made.Metadata["team"] != "a" {
		t.Errorf("created: %+v", made)
	}
	_, err = c.Create(ctx, path, first)
	backendtest.WantIs(t, err, backend.ErrExists)
	made, err = c.Put(ctx, path, text("two"))
	backendtest.Must(t, err)
	if made.Version != 2 || made.Versions != 2 {
		t.Errorf("second version: %+v", made)
	}
	reads(t, c, path, 0, "two")
	reads(t, c, path, 1, "one")
	_, err = c.Read(ctx, path, 3)
	backendtest.WantIs(t, err, backend.ErrNotFound)
	back, err := c.Rollback(ctx, path, 1)
	backendtest.Must(t, err)
	if back.Version != 3 {
		t.Errorf("a rollback added version %d, want 3", back.Version)
	}
	reads(t, c, path, 0, "one")
	_, err = c.Rollback(ctx, path, 9)
	backendtest.WantIs(t, err, backend.ErrNotFound)
	page, err := c.Versions(ctx, path, "")
	backendtest.Must(t, err)
	var numbers []int64
	for _, version := range page.Items {
		numbers = append(numbers, version.Version)
		if version.State != vault.StateLive || version.CreatedBy == "" || time.Since(version.CreatedAt) > time.Hour {
			t.Errorf("version: %+v", version)
		}
	}
	if !slices.Equal(numbers, []int64{3, 2, 1}) {
		t.Errorf("versions %v, want the newest first", numbers)
	}
}

func testVaultCheckAndSet(t *testing.T, v UnderTest) {
	ctx, c, path := backendtest.Context(t), v.Client, vaultPath("cas")
	_, err := c.Create(ctx, path, text("one"))
	backendtest.Must(t, err)
	known := int64(1)
	second := text("two")
	second.CheckAndSet = &known
	_, err = c.Put(ctx, path, second)
	backendtest.Must(t, err)
	_, err = c.Put(ctx, path, second)
	backendtest.WantIs(t, err, vault.ErrStale)
	backendtest.WantIs(t, err, backend.ErrInvalid)
	got, err := c.Secret(ctx, path)
	backendtest.Must(t, err)
	if got.Version != 2 {
		t.Errorf("a refused write left version %d", got.Version)
	}
}

func testVaultDelete(t *testing.T, v UnderTest) {
	ctx, c, path := backendtest.Context(t), v.Client, vaultPath("delete")
	_, err := c.Create(ctx, path, text("one"))
	backendtest.Must(t, err)
	_, err = c.Put(ctx, path, text("two"))
	backendtest.Must(t, err)
	backendtest.Must(t, c.DeleteVersion(ctx, path, 1))
	_, err = c.Read(ctx, path, 1)
	backendtest.WantIs(t, err, backend.ErrNotFound)
	reads(t, c, path, 2, "two")
	backendtest.Must(t, c.UndeleteVersion(ctx, path, 1))
	reads(t, c, path, 1, "one")
	backendtest.Must(t, c.DestroyVersion(ctx, path, 1))
	_, err = c.Read(ctx, path, 1)
	backendtest.WantIs(t, err, backend.ErrNotFound)
	if err := c.UndeleteVersion(ctx, path, 1); err == nil {
		t.Error("a destroyed version was restored")
	}
	backendtest.Must(t, c.Delete(ctx, path, false))
	_, err = c.Read(ctx, path, 2)
	backendtest.WantIs(t, err, backend.ErrNotFound)
	backendtest.Must(t, c.UndeleteVersion(ctx, path, 2))
	reads(t, c, path, 2, "two")
	backendtest.Must(t, c.Delete(ctx, path, true))
	_, err = c.Secret(ctx, path)
	backendtest.WantIs(t, err, backend.ErrNotFound)
	backendtest.WantIs(t, c.Delete(ctx, path, true), backend.ErrNotFound)
}

func testVaultInvalid(t *testing.T, v UnderTest) {
	ctx, c := backendtest.Context(t), v.Client
	for _, path := range []string{"", "/", "../etc", "a//b", "a/../b", "A", "a/", "-a", strings.Repeat("a", vault.MaxPath+1), "a\x00b", "a?b"} {
		_, err := c.Create(ctx, path, text("x"))
		backendtest.WantIs(t, err, backend.ErrInvalid)
	}
	huge := bytes.Repeat([]byte("x"), vault.MaxValueBytes+1)
	for name, write := range map[string]vault.Write{
		"type":      {Type: "Nonsense", Value: vault.Value{vault.FieldText: []byte("x")}},
		"field":     {Type: vault.TypeText, Value: vault.Value{vault.FieldText: []byte("x"), vault.FieldKey: []byte("x")}},
		"no field":  {Type: vault.TypeAPIKey, Value: vault.Value{vault.FieldID: []byte("x")}},
		"no value":  {Type: vault.TypeText},
		"too long":  {Type: vault.TypeFile, Value: vault.Value{vault.FieldFile: huge}},
		"not a PEM": {Type: vault.TypeCertificate, Value: vault.Value{vault.FieldCertificate: []byte("x"), vault.FieldPrivateKey: []byte("x")}},
	} {
		path := vaultPath("invalid")
		_, err := c.Create(ctx, path, write)
		backendtest.WantIs(t, err, backend.ErrInvalid)
		if _, err := c.Secret(ctx, path); err == nil {
			t.Errorf("%s: a refused write stored something", name)
		}
	}
	path := vaultPath("type")
	_, err := c.Create(ctx, path, text("x"))
	backendtest.Must(t, err)
	_, err = c.Put(ctx, path, vault.Write{Type: vault.TypeAPIKey, Value: vault.Value{vault.FieldKey: []byte("x")}})
	backendtest.WantIs(t, err, backend.ErrInvalid)
	_, err = c.Rotate(ctx, path)
	backendtest.WantIs(t, err, backend.ErrInvalid)
	_, err = c.Put(ctx, vaultPath("missing"), text("x"))
	backendtest.WantIs(t, err, backend.ErrNotFound)
}

// declared returns an Apply with the fields that are always required.
func declared(apply vault.Apply) vault.Apply {
	if apply.Name == "" {
		apply.Name = "resource"
	}
	if apply.SourceHash == "" {
		apply.SourceHash = rand.Text()
	}
	return apply
}

func testVaultGenerated(t *testing.T, v UnderTest) {
	ctx, c, path := backendtest.Context(t), v.Client, vaultPath("generated")
	apply := declared(vault.Apply{Type: vault.TypeAPIKey, Generate: &vault.Generate{Length: 40, Charset: "hex", Prefix: "sk_"}})
	made, err := c.Apply(ctx, path, apply)
	backendtest.Must(t, err)
	if !made.Changed || made.Version != 1 {
		t.Errorf("first apply: %+v", made)
	}
	read, err := c.Read(ctx, path, 0)
	backendtest.Must(t, err)
	key := string(read.Value[vault.FieldKey])
	random, ok := strings.CutPrefix(key, "sk_")
	if !ok || len(random) != 40 || strings.Trim(random, "0123456789abcdef") != "" {
		t.Error("the generated key is not as declared")
	}
	rotated, err := c.Rotate(ctx, path)
	backendtest.Must(t, err)
	again, err := c.Read(ctx, path, 0)
	backendtest.Must(t, err)
	if rotated.Version != 2 || string(again.Value[vault.FieldKey]) == key {
		t.Errorf("rotation: version %d", rotated.Version)
	}
	_, err = c.Apply(ctx, vaultPath("generated"), declared(vault.Apply{Type: vault.TypeCertificate, Generate: &vault.Generate{}}))
	backendtest.WantIs(t, err, backend.ErrInvalid)
}

func testVaultIssued(t *testing.T, v UnderTest) {
	ctx, c, authority, path := backendtest.Context(t), v.Client, vaultPath("ca"), vaultPath("issued")
	_, err := c.Apply(ctx, authority, declared(vault.Apply{Type: vault.TypeCertificate, Issue: &vault.Issue{CommonName: "Test CA", CA: true, TTL: "48h"}}))
	backendtest.Must(t, err)
	made, err := c.Apply(ctx, path, declared(vault.Apply{Type: vault.TypeCertificate,
		Issue: &vault.Issue{CommonName: "a.example.com", DNSNames: []string{"a.example.com"}, IPAddresses: []string{"10.0.0.1"}, TTL: "24h", CAPath: authority}}))
	backendtest.Must(t, err)
	if made.ExpiresAt == nil || time.Until(*made.ExpiresAt) > 24*time.Hour+time.Minute || time.Until(*made.ExpiresAt) < 23*time.Hour {
		t.Errorf("expires at %v, want in a day", made.ExpiresAt)
	}
	read, err := c.Read(ctx, path, 0)
	backendtest.Must(t, err)
	signer, err := c.Read(ctx, authority, 0)
	backendtest.Must(t, err)
	verify(t, read.Value, signer.Value, "a.example.com")
	_, err = c.Apply(ctx, vaultPath("issued"), declared(vault.Apply{Type: vault.TypeCertificate, Issue: &vault.Issue{CommonName: "a", CAPath: vaultPath("nothing")}}))
	if err == nil {
		t.Error("a certificate has no signer")
	}
}

func testVaultSealed(t *testing.T, v UnderTest) {
	if v.Seal == nil {
		t.Skip("no way to seal for this Vault")
	}
	ctx, c, path := backendtest.Context(t), v.Client, vaultPath("sealed")
	sealed := v.Seal(t, v.Namespace, "mine", vault.Value{vault.FieldText: []byte("sealed value")})
	_, err := c.Apply(ctx, path, declared(vault.Apply{Type: vault.TypeText, Name: "mine", Sealed: sealed}))
	backendtest.Must(t, err)
	reads(t, c, path, 1, "sealed value")
	forged := []byte(sealed)
	forged[len(forged)/2] ^= 1
	for name, apply := range map[string]vault.Apply{
		"another name": {Type: vault.TypeText, Name: "yours", Sealed: sealed},
		"forged":       {Type: vault.TypeText, Name: "mine", Sealed: string(forged)},
		"namespace":    {Type: vault.TypeText, Name: "mine", Sealed: v.Seal(t, "elsewhere", "mine", vault.Value{vault.FieldText: []byte("x")})},
		"nonsense":     {Type: vault.TypeText, Name: "mine", Sealed: "nonsense"},
	} {
		elsewhere := vaultPath("sealed")
		if _, err := c.Apply(ctx, elsewhere, declared(apply)); err == nil {
			t.Errorf("%s: the sealed value opened", name)
		} else {
			backendtest.WantIs(t, err, backend.ErrInvalid)
		}
	}
}

func testVaultDeclared(t *testing.T, v UnderTest) {
	ctx, c, path := backendtest.Context(t), v.Client, vaultPath("declared")
	first := declared(vault.Apply{Type: vault.TypeText, Value: vault.Value{vault.FieldText: []byte("one")}, Metadata: map[string]string{"owner": "me"}})
	made, err := c.Apply(ctx, path, first)
	backendtest.Must(t, err)
	if !made.Changed || made.Metadata["owner"] != "me" {
		t.Errorf("first apply: %+v", made)
	}
	same, err := c.Apply(ctx, path, first)
	backendtest.Must(t, err)
	if same.Changed || same.Version != 1 {
		t.Errorf("the same declaration added version %d", same.Version)
	}
	second := first
	second.SourceHash, second.Value = rand.Text(), vault.Value{vault.FieldText: []byte("two")}
	made, err = c.Apply(ctx, path, second)
	backendtest.Must(t, err)
	if !made.Changed || made.Version != 2 {
		t.Errorf("another declaration: %+v", made)
	}
	reads(t, c, path, 0, "two")
	other := declared(vault.Apply{Type: vault.TypeAPIKey, Value: vault.Value{vault.FieldKey: []byte("x")}})
	_, err = c.Apply(ctx, path, other)
	backendtest.WantIs(t, err, backend.ErrInvalid)
	both := declared(vault.Apply{Type: vault.TypeText, Value: vault.Value{vault.FieldText: []byte("x")}, Generate: &vault.Generate{}})
	_, err = c.Apply(ctx, vaultPath("declared"), both)
	backendtest.WantIs(t, err, backend.ErrInvalid)
	_, err = c.Apply(ctx, vaultPath("declared"), declared(vault.Apply{Type: vault.TypeText}))
	backendtest.WantIs(t, err, backend.ErrInvalid)
}

func testVaultRotation(t *testing.T, v UnderTest) {
	ctx, c, path := backendtest.Context(t), v.Client, vaultPath("rotation")
	apply := declared(vault.Apply{Type: vault.TypeText, Generate: &vault.Generate{}})
	for _, step := range []struct {
		rotation string
		version  int64
		changed  bool
	}{{"", 1, true}, {"", 1, false}, {"a", 2, true}, {"a", 2, false}, {"", 2, false}, {"b", 3, true}, {"b", 3, false}} {
		apply.Rotation = step.rotation
		got, err := c.Apply(ctx, path, apply)
		backendtest.Must(t, err)
		if got.Version != step.version || got.Changed != step.changed {
			t.Fatalf("rotation %q returns version %d, changed %t; want %d, %t", step.rotation, got.Version, got.Changed, step.version, step.changed)
		}
	}
}

func testVaultDiff(t *testing.T, v UnderTest) {
	ctx, c, path := backendtest.Context(t), v.Client, vaultPath("diff")
	_, err := c.Create(ctx, path, vault.Write{Type: vault.TypeAPIKey, Value: vault.Value{vault.FieldKey: []byte("canary-one")}})
	backendtest.Must(t, err)
	_, err = c.Put(ctx, path, vault.Write{Type: vault.TypeAPIKey, Value: vault.Value{vault.FieldKey: []byte("canary-two"), vault.FieldID: []byte("id")}})
	backendtest.Must(t, err)
	_, err = c.Put(ctx, path, vault.Write{Type: vault.TypeAPIKey, Value: vault.Value{vault.FieldKey: []byte("canary-two")}})
	backendtest.Must(t, err)
	changes := func(from, to int64) map[string]vault.FieldDiff {
		rows, err := c.Diff(ctx, path, from, to)
		backendtest.Must(t, err)
		out := map[string]vault.FieldDiff{}
		for _, row := range rows {
			out[row.Field] = row
			if strings.Contains(row.From+row.To, "canary") {
				t.Error("a diff contains a value")
			}
		}
		return out
	}
	if got := changes(1, 2); got[vault.FieldKey].Change != "changed" || got[vault.FieldID].Change != "added" || got[vault.FieldKey].From == got[vault.FieldKey].To {
		t.Errorf("1 to 2: %+v", got)
	}
	if got := changes(2, 3); got[vault.FieldKey].Change != "same" || got[vault.FieldID].Change != "removed" {
		t.Errorf("2 to 3: %+v", got)
	}
	_, err = c.Diff(ctx, path, 1, 9)
	backendtest.WantIs(t, err, backend.ErrNotFound)
}

func testVaultList(t *testing.T, v UnderTest) {
	ctx, c, prefix := backendtest.Context(t), v.Client, vaultPath("list")
	for _, name := range []string{"a", "b", "c"} {
		_, err := c.Create(ctx, prefix+"/"+name, text("x"))
		backendtest.Must(t, err)
	}
	_, err := c.Create(ctx, prefix+"/d", vault.Write{Type: vault.TypeAPIKey, Value: vault.Value{vault.FieldKey: []byte("x")}})
	backendtest.Must(t, err)
	var found []string
	list := vault.List{Prefix: prefix + "/", Type: vault.TypeText, Limit: 2}
	for pages := 0; ; pages++ {
		page, err := c.Secrets(ctx, list)
		backendtest.Must(t, err)
		for _, item := range page.Items {
			found = append(found, strings.TrimPrefix(item.Path, prefix+"/"))
		}
		if page.Next == "" {
			break
		}
		if list.Cursor = page.Next; pages > 3 {
			t.Fatal("the list has no end")
		}
	}
	if !slices.Equal(found, []string{"a", "b", "c"}) {
		t.Errorf("found %v", found)
	}
}

func testVaultRootKey(t *testing.T, v UnderTest) {
	ctx, c := backendtest.Context(t), v.Client
	status, err := c.SealStatus(ctx)
	backendtest.Must(t, err)
	if status.Sealed || status.KeyID == "" {
		t.Errorf("seal status: %+v", status)
	}
	key, err := c.SealingKey(ctx)
	backendtest.Must(t, err)
	if len(key.PublicKey) != 32 || key.ID == "" {
		t.Errorf("sealing key: %d bytes", len(key.PublicKey))
	}
	path := vaultPath("rootkey")
	_, err = c.Create(ctx, path, text("kept"))
	backendtest.Must(t, err)
	backendtest.Must(t, c.RotateKey(ctx))
	backendtest.Must(t, c.Rewrap(ctx))
	// The status may count from before the rotation, so the secret itself decides.
	for deadline := time.Now().Add(rewrapTimeout); ; {
		status, err = c.SealStatus(ctx)
		backendtest.Must(t, err)
		got, err := c.Secret(ctx, path)
		backendtest.Must(t, err)
		if status.Stale == 0 && !got.KeyStale {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("a re-wrap left %d of %d; the secret's key is stale: %t", status.Stale, status.Total, got.KeyStale)
		}
		time.Sleep(50 * time.Millisecond)
	}
	reads(t, c, path, 0, "kept")
}
