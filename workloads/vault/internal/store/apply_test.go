// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
	"sync"
	"testing"

	wire "github.com/itechsmart/operator/workloads/vault/client"
	"github.com/itechsmart/operator/workloads/vault/internal/seal"
)

// applies runs Apply, and checks whether it added a version.
func applies(t testing.TB, v Vault, path string, a wire.Apply, version int64, changed bool) wire.Read {
	t.Helper()
	got, err := v.Apply(t.Context(), path, a, "controller")
	if err != nil {
		t.Fatalf("apply %s: %v", path, err)
	}
	if got.Version != version || got.Changed != changed || got.State != wire.StateLive {
		t.Fatalf("apply %s: version %d (changed %v, %s), want %d (%v)", path, got.Version, got.Changed, got.State, version, changed)
	}
	read, err := v.Read(t.Context(), path, 0)
	if err != nil || read.Version.Version != version {
		t.Fatalf("read %s: %v", path, err)
	}
	return read
}

func TestApplyValue(t *testing.T) {
	v, _ := newVault(t)
	a := wire.Apply{Type: wire.TypeText, Name: "a", Value: text("one"), SourceHash: "h1"}
	applies(t, v, "a", a, 1, true)
	applies(t, v, "a", a, 1, false)
	a.SourceHash = "h2"
	applies(t, v, "a", a, 1, false) // declared again, and the same
	a.Value, a.SourceHash = text("two"), "h3"
	applies(t, v, "a", a, 2, true)
	a.Rotation = "r1" // does not affect a given value
	applies(t, v, "a", a, 2, false)
	a.Metadata, a.SourceHash = map[string]string{"k": "v"}, "h4"
	if r := applies(t, v, "a", a, 3, true); r.Metadata["k"] != "v" || string(r.Value[wire.FieldText]) != "two" {
		t.Error("other metadata changed the value")
	}
	applies(t, v, "a", a, 3, false)
	if err := v.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	applies(t, v, "a", a, 4, true) // the declared value is restored
	mustPut(t, v, "a", "by hand")
	a.SourceHash, a.Metadata = "h5", nil
	applies(t, v, "a", a, 6, true)

	_, err := v.Apply(t.Context(), "a", wire.Apply{Type: wire.TypeAPIKey, Value: wire.Value{wire.FieldKey: []byte("k")}, SourceHash: "h"}, "c")
	wantField(t, "another type", err, "type")
	_, err = v.Rotate(t.Context(), "a", "ada")
	wantErr(t, "rotate a declared value", err, ErrNotGenerated)
}

func TestApplyGenerate(t *testing.T) {
	v, _ := newVault(t)
	a := wire.Apply{Type: wire.TypeAPIKey, Name: "key", Generate: &wire.Generate{Length: 40, Prefix: "sk_"}, SourceHash: "h1", Metadata: map[string]string{"k": "v"}}
	value := func(r wire.Read) string { return string(r.Value[wire.FieldKey]) }
	one := value(applies(t, v, "key", a, 1, true))
	if !strings.HasPrefix(one, "sk_") || len(one) != 43 {
		t.Errorf("%d characters", len(one))
	}
	same := func(what string, r wire.Read, want string, equal bool) {
		t.Helper()
		if (value(r) == want) != equal {
			t.Errorf("%s: the same value %v, want %v", what, value(r) == want, equal)
		}
	}
	same("again", applies(t, v, "key", a, 1, false), one, true)
	a.Rotation = "r1"
	two := applies(t, v, "key", a, 2, true)
	same("a rotation token", two, one, false)
	same("the same token", applies(t, v, "key", a, 2, false), value(two), true)
	a.Rotation = ""
	same("no token", applies(t, v, "key", a, 2, false), value(two), true)
	a.Rotation = "r1"
	same("the last token", applies(t, v, "key", a, 2, false), value(two), true)
	a.SourceHash = "h2"
	same("another hash, the same recipe", applies(t, v, "key", a, 2, false), value(two), true)
	a.Metadata, a.SourceHash = nil, "h3"
	same("other metadata", applies(t, v, "key", a, 3, true), value(two), true)
	a.Generate, a.SourceHash = &wire.Generate{Length: 50}, "h4"
	four := applies(t, v, "key", a, 4, true)
	same("another recipe", four, value(two), false)

	s, err := v.Rotate(t.Context(), "key", "ada")
	if err != nil || s.Version != 5 {
		t.Fatalf("%+v, %v", s, err)
	}
	five, err := v.Read(t.Context(), "key", 0)
	if err != nil {
		t.Fatal(err)
	}
	same("rotated manually", five, value(four), false)
	if len(value(five)) != 50 {
		t.Errorf("the rotated value has %d characters", len(value(five)))
	}
	same("applied after that", applies(t, v, "key", a, 5, false), value(five), true)
}

func TestApplySealed(t *testing.T) {
	v, pool := newVault(t)
	ctx := t.Context()
	key, err := v.SealingKey(ctx)
	if err != nil || len(key.PublicKey) != 32 || key.ID != seal.KeyID(key.PublicKey) {
		t.Fatalf("%+v, %v", key, err)
	}
	if again, err := v.SealingKey(ctx); err != nil || again.ID != key.ID {
		t.Errorf("%+v, %v", again, err)
	}
	sealTo := func(key wire.SealingKey, ns, name, value string) string {
		t.Helper()
		sealed, err := seal.Seal(key.PublicKey, seal.Binding{Namespace: ns, Name: name}, text(value))
		if err != nil {
			t.Fatal(err)
		}
		return sealed
	}
	a := wire.Apply{Type: wire.TypeText, Name: "db.password", Sealed: sealTo(key, namespace, "db.password", "one"), SourceHash: "h1"}
	if r := applies(t, v, "db/password", a, 1, true); string(r.Value[wire.FieldText]) != "one" {
		t.Error("another value was stored")
	}
	applies(t, v, "db/password", a, 1, false)
	a.Sealed, a.SourceHash = sealTo(key, namespace, "db.password", "one"), "h2" // sealed again: the text differs, the value does not
	applies(t, v, "db/password", a, 1, false)

	newer, err := v.RotateSealingKey(ctx)
	if err != nil || newer.ID == key.ID {
		t.Fatalf("%+v, %v", newer, err)
	}
	a.Sealed, a.SourceHash = sealTo(key, namespace, "db.password", "two"), "h3" // still to the old key
	applies(t, v, "db/password", a, 2, true)
	a.Sealed, a.SourceHash = sealTo(newer, namespace, "db.password", "three"), "h4"
	applies(t, v, "db/password", a, 3, true)
	if _, err := v.RotateRoot(ctx, []byte(passphrase)); err != nil {
		t.Fatal(err)
	}
	if err := v.Rewrap(ctx); err != nil {
		t.Fatal(err)
	}
	a.Sealed, a.SourceHash = sealTo(key, namespace, "db.password", "four"), "h5"
	applies(t, v, "db/password", a, 4, true)

	_, foreign, err := seal.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	good := sealTo(newer, namespace, "db.password", "x")
	other := replica(t, pool, "team-b")
	otherKey, err := other.SealingKey(ctx)
	if err != nil || otherKey.ID == newer.ID {
		t.Fatalf("two namespaces share a sealing key, %v", err)
	}
	for name, sealed := range map[string]string{
		"for another name": sealTo(newer, namespace, "other", "x"), "for another namespace": sealTo(newer, "team-b", "db.password", "x"),
		"to another namespace's key": sealTo(otherKey, namespace, "db.password", "x"),
		"to an unknown key":          sealTo(wire.SealingKey{PublicKey: foreign}, namespace, "db.password", "x"),
		"under another key's id":     strings.Replace(good, newer.ID, key.ID, 1),
		"cut":                        good[:len(good)-4], "changed": good[:60] + strings.Map(swap, good[60:64]) + good[64:], "not a sealed value": "hunter2",
	} {
		a.Sealed, a.SourceHash = sealed, name
		_, err := v.Apply(ctx, "db/password", a, "controller")
		wantField(t, name, err, "sealed")
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error contains the input: %v", err)
		}
	}
	if s, err := v.Get(ctx, "db/password"); err != nil || s.Version != 4 {
		t.Errorf("a refused value changed something: %+v, %v", s, err)
	}
}

// swap returns another character of base64url.
func swap(r rune) rune {
	if r == 'A' {
		return 'B'
	}
	return 'A'
}

func TestApplyIssue(t *testing.T) {
	v, _ := newVault(t)
	ca := applies(t, v, "ca", wire.Apply{Type: wire.TypeCertificate, Name: "ca", Issue: &wire.Issue{CommonName: "ca", CA: true}, SourceHash: "h"}, 1, true)
	a := wire.Apply{Type: wire.TypeCertificate, Name: "web", Issue: &wire.Issue{DNSNames: []string{"web.example.com"}, TTL: "24h", CAPath: "ca"}, SourceHash: "h"}
	web := applies(t, v, "web", a, 1, true)
	pair, err := tls.X509KeyPair(web.Value[wire.FieldCertificate], web.Value[wire.FieldPrivateKey])
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.Value[wire.FieldCertificate])
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "web.example.com"}); err != nil {
		t.Error(err)
	}
	if web.ExpiresAt == nil || !web.ExpiresAt.Equal(leaf.NotAfter) {
		t.Errorf("it expires at %v, the certificate at %s", web.ExpiresAt, leaf.NotAfter)
	}
	applies(t, v, "web", a, 1, false)
	s, err := v.Rotate(t.Context(), "web", "ada")
	if err != nil || s.Version != 2 {
		t.Fatalf("%+v, %v", s, err)
	}
	rotated, err := v.Read(t.Context(), "web", 0)
	if err != nil || bytes.Equal(rotated.Value[wire.FieldPrivateKey], web.Value[wire.FieldPrivateKey]) {
		t.Errorf("the key is the old one, %v", err)
	}

	mustCreate(t, v, "text", "x")
	applies(t, v, "gone", wire.Apply{Type: wire.TypeCertificate, Issue: &wire.Issue{CommonName: "ca", CA: true}, SourceHash: "h"}, 1, true)
	if err := v.Delete(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"missing": "nowhere", "no CA": "web", "no certificate": "text", "deleted": "gone", "itself": "new", "no path": "../ca"} {
		a.Issue.CAPath = path
		_, err := v.Apply(t.Context(), "new", a, "controller")
		wantField(t, name, err, "issue.caPath")
	}
}

func TestApplyRefuses(t *testing.T) {
	v, _ := newVault(t)
	for _, c := range []struct {
		path, field string
		apply       wire.Apply
	}{
		{"a", "source", wire.Apply{Type: wire.TypeText, SourceHash: "h"}},
		{"a", "source", wire.Apply{Type: wire.TypeText, SourceHash: "h", Value: text("x"), Generate: &wire.Generate{}}},
		{"a", "sourceHash", wire.Apply{Type: wire.TypeText, Value: text("x")}},
		{"a", "sourceHash", wire.Apply{Type: wire.TypeText, Value: text("x"), SourceHash: strings.Repeat("h", 257)}},
		{"a", "rotation", wire.Apply{Type: wire.TypeText, Value: text("x"), SourceHash: "h", Rotation: strings.Repeat("h", 257)}},
		{"a", "sourceHash", wire.Apply{Type: wire.TypeText, Value: text("x"), SourceHash: "h\x00"}},
		{"a", "rotation", wire.Apply{Type: wire.TypeText, Value: text("x"), SourceHash: "h", Rotation: "\xff"}},
		{"a", "generate.length", wire.Apply{Type: wire.TypeText, SourceHash: "h", Generate: &wire.Generate{Length: 1}}},
		{"a", "generate", wire.Apply{Type: wire.TypeFile, SourceHash: "h", Generate: &wire.Generate{}}},
		{"a", "issue", wire.Apply{Type: wire.TypeText, SourceHash: "h", Issue: &wire.Issue{}}},
		{"a", "value.text", wire.Apply{Type: wire.TypeText, SourceHash: "h", Value: wire.Value{}}},
		{"a", "type", wire.Apply{Type: "Blob", SourceHash: "h", Value: text("x")}},
		{"../a", "path", wire.Apply{Type: wire.TypeText, Value: text("x"), SourceHash: "h"}},
	} {
		_, err := v.Apply(t.Context(), c.path, c.apply, "controller")
		wantField(t, c.field, err, c.field)
	}
	if list, _, err := v.List(t.Context(), ListOptions{}); err != nil || len(list) != 0 {
		t.Errorf("refused requests left %v, %v", list, err)
	}
}

// TestConcurrentApply checks that of many equal Applies, one adds a version.
func TestConcurrentApply(t *testing.T) {
	v, pool := newVault(t)
	other := replica(t, pool, namespace)
	for round := range 5 {
		a := wire.Apply{Type: wire.TypeText, Generate: &wire.Generate{}, SourceHash: "h", Rotation: fmt.Sprintf("r%d", round)}
		changed := make(chan bool, 12)
		var group sync.WaitGroup
		for i := range cap(changed) {
			group.Go(func() {
				applied, err := []Vault{v, other}[i%2].Apply(t.Context(), "a", a, "controller")
				if err != nil {
					t.Error(err)
				}
				changed <- applied.Changed
			})
		}
		group.Wait()
		close(changed)
		made := 0
		for c := range changed {
			if c {
				made++
			}
		}
		if s, err := v.Get(t.Context(), "a"); err != nil || made != 1 || s.Version != int64(round+1) {
			t.Errorf("round %d: %d added a version, %+v, %v", round, made, s, err)
		}
	}
}
