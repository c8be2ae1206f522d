// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	vault "github.com/itechsmart/operator/workloads/vault/client"
)

var here = Binding{Namespace: "team-a", Name: "db-password"}

func sealed(t testing.TB, value vault.Value) (private []byte, text string) {
	t.Helper()
	private, public, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	if text, err = Seal(public, here, value); err != nil {
		t.Fatal(err)
	}
	return private, text
}

func open(private []byte, binding Binding, text string) (vault.Value, error) {
	id, data, err := Parse(text)
	if err != nil {
		return nil, err
	}
	return Open(private, id, binding, data)
}

func TestSealAndOpen(t *testing.T) {
	for name, value := range map[string]vault.Value{
		"text":    {vault.FieldText: []byte("canary")},
		"fields":  {vault.FieldKey: []byte("k"), vault.FieldID: []byte{}},
		"largest": {vault.FieldFile: bytes.Repeat([]byte{0xff}, vault.MaxValueBytes)},
	} {
		private, text := sealed(t, value)
		got, err := open(private, here, text)
		if err != nil || len(got) != len(value) {
			t.Fatalf("%s: %v", name, err)
		}
		for field := range value {
			if !bytes.Equal(got[field], value[field]) {
				t.Errorf("%s: field %s differs", name, field)
			}
		}
		if strings.Contains(text, "canary") || strings.Contains(text, base64.RawURLEncoding.EncodeToString([]byte("canary"))) {
			t.Error("the text contains the value")
		}
	}
}

func TestTwoSealingsDiffer(t *testing.T) {
	_, public, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	a, errA := Seal(public, here, vault.Value{"text": []byte("x")})
	b, errB := Seal(public, here, vault.Value{"text": []byte("x")})
	if errA != nil || errB != nil || a == b {
		t.Errorf("two sealings of one value are equal, %v, %v", errA, errB)
	}
}

func TestForgedValuesFail(t *testing.T) {
	private, text := sealed(t, vault.Value{vault.FieldText: []byte("value")})
	for _, there := range []Binding{{"team-b", "db-password"}, {"team-a", "db-passwor"}, {"team-a", ""}, {"team-", "adb-password"}, {"", ""}} {
		if _, err := open(private, there, text); !errors.Is(err, ErrOpen) {
			t.Errorf("for %v: %v", there, err)
		}
	}
	other, _ := sealed(t, vault.Value{vault.FieldText: []byte("value")})
	if _, err := open(other, here, text); !errors.Is(err, ErrOpen) {
		t.Errorf("another key: %v", err)
	}
	id, data, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	for i := range data {
		changed := bytes.Clone(data)
		changed[i] ^= 0x10
		if _, err := Open(private, id, here, changed); err == nil {
			t.Errorf("it opens with byte %d changed", i)
		}
		if _, err := Open(private, id, here, data[:i]); err == nil {
			t.Errorf("cut at %d it opens", i)
		}
	}
	if _, err := Open(private, strings.Repeat("0", 16), here, data); !errors.Is(err, ErrOpen) {
		t.Errorf("under another key id: %v", err)
	}
	// A point of low order would have the same secret for every key.
	low := append(make([]byte, KeyBytes), data[KeyBytes:]...)
	if _, err := Open(private, id, here, low); !errors.Is(err, ErrOpen) {
		t.Errorf("a point of low order: %v", err)
	}
}

func TestParseRefuses(t *testing.T) {
	_, text := sealed(t, vault.Value{vault.FieldText: []byte("value")})
	body := text[len(Prefix)+idChars+1:]
	for name, wrong := range map[string]string{
		"empty": "", "prefix alone": Prefix, "another version": "vsec2." + text[6:], "no key id": Prefix + body, "key id alone": Prefix + "0123456789abcdef.",
		"key id in capitals": Prefix + "0123456789ABCDEF." + body, "a path for a key id": Prefix + "../../../../etc/." + body, "a long key id": Prefix + "0123456789abcdef0." + body,
		"padding": text + "=", "standard base64": Prefix + "0123456789abcdef." + strings.Repeat("+/", 60), "line breaks": text[:60] + "\n" + text[60:],
		"spaces": " " + text, "one more part": text + ".AA", "short": Prefix + "0123456789abcdef.AAAA", "too long": text + strings.Repeat("A", MaxText),
	} {
		if _, _, err := Parse(wrong); !errors.Is(err, ErrText) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Seal(make([]byte, 31), here, vault.Value{"text": []byte("x")}); err == nil {
		t.Error("a public key of 31 bytes was accepted")
	}
	if _, err := Seal(make([]byte, 32), here, vault.Value{"text": []byte("x")}); err == nil {
		t.Error("a public key of low order was accepted")
	}
}

func FuzzParse(f *testing.F) {
	_, text := sealed(f, vault.Value{vault.FieldText: []byte("value")})
	private, _ := sealed(f, vault.Value{vault.FieldText: []byte("value")})
	f.Add(text)
	f.Add(Prefix + "0123456789abcdef." + strings.Repeat("A", 64))
	f.Add(text[:60] + "\r\n" + text[60:])
	f.Fuzz(func(t *testing.T, text string) {
		id, data, err := Parse(text)
		if err != nil {
			if !errors.Is(err, ErrText) {
				t.Fatal(err)
			}
			return
		}
		if again := Prefix + id + "." + base64.RawURLEncoding.EncodeToString(data); again != text {
			t.Errorf("%q and %q are the same value", text, again)
		}
		if _, err := Open(private, id, here, data); err == nil {
			t.Error("a value that was not sealed to this key opens")
		}
	})
}
