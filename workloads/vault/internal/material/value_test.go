// SPDX-License-Identifier: Apache-2.0

package material

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	vault "github.com/itechsmart/operator/workloads/vault/client"
)

func TestEncode(t *testing.T) {
	got, err := Encode(vault.Value{"id": []byte("7"), "key": []byte("abc")})
	if err != nil {
		t.Fatal(err)
	}
	if want := "\x01\x02\x00\x02id\x00\x00\x00\x017\x00\x03key\x00\x00\x00\x03abc"; string(got) != want {
		t.Errorf("%q, want %q", got, want)
	}
	if cap(got) != len(got) {
		t.Error("the buffer grew: copies of the value stay behind")
	}
	for range 20 { // maps have no order
		again, err := Encode(vault.Value{"key": []byte("abc"), "id": []byte("7")})
		if err != nil || !bytes.Equal(again, got) {
			t.Fatalf("equal values differ: %q, %v", again, err)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	many := vault.Value{}
	for i := range maxFields + 1 {
		many[fmt.Sprint(i)] = nil
	}
	for name, v := range map[string]vault.Value{
		"too large": {"a": make([]byte, vault.MaxValueBytes), "b": {1}}, "no name": {"": {1}}, "a long name": {strings.Repeat("a", 254): {1}}, "too many": many,
	} {
		var f *FieldError
		if _, err := Encode(v); !errors.As(err, &f) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, data := range []string{"", "\x01", "\x02\x00", "\x01\x11", "\x01\x01", "\x01\x00x", "\x01\x01\x00\x00\x00\x00\x00\x00", "\x01\x01\x00\x01a\x00\x00\x00\x02x",
		"\x01\x02\x00\x01b\x00\x00\x00\x00\x00\x01a\x00\x00\x00\x00", "\x01\x02\x00\x01a\x00\x00\x00\x00\x00\x01a\x00\x00\x00\x00",
		"\x01\x01\x00\x01a\xff\xff\xff\xff"} {
		if v, err := Decode([]byte(data)); !errors.Is(err, ErrEncoding) {
			t.Errorf("%q: %v, %v", data, v, err)
		}
	}
}

func TestDecodeCopies(t *testing.T) {
	data, err := Encode(vault.Value{"a": []byte("abc")})
	if err != nil {
		t.Fatal(err)
	}
	v, err := Decode(data)
	clear(data)
	if err != nil || string(v["a"]) != "abc" {
		t.Errorf("%q, %v", v["a"], err)
	}
	held := v["a"]
	Zero(v)
	if !bytes.Equal(held, make([]byte, 3)) {
		t.Error("Zero did not overwrite the value")
	}
}

func FuzzDecode(f *testing.F) {
	for _, v := range []vault.Value{{}, {"text": []byte("abc")}, {"key": []byte("abc"), "id": {}}} {
		data, err := Encode(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := Decode(data)
		if err != nil {
			return
		}
		again, err := Encode(v)
		if err != nil || !bytes.Equal(again, data) {
			t.Errorf("%q and %q are the same value, %v", data, again, err)
		}
	})
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		kind  string
		value vault.Value
		field string // the invalid one; empty: none
	}{
		{vault.TypeText, vault.Value{"text": []byte("grüße")}, ""},
		{vault.TypeText, vault.Value{"text": []byte("\xc3")}, "value.text"},
		{vault.TypeText, vault.Value{"text": {}}, "value.text"},
		{vault.TypeText, vault.Value{}, "value.text"},
		{vault.TypeText, nil, "value.text"},
		{vault.TypeText, vault.Value{"text": []byte("a"), "hunter2": nil}, "value"},
		{vault.TypeText, vault.Value{"text": make([]byte, vault.MaxValueBytes+1)}, "value"},
		{vault.TypeFile, vault.Value{"file": []byte("\x00\xff"), "filename": []byte("id_rsa")}, ""},
		{vault.TypeFile, vault.Value{"file": {}}, ""}, // a file may be empty
		{vault.TypeFile, vault.Value{"file": make([]byte, vault.MaxValueBytes)}, ""},
		{vault.TypeFile, vault.Value{"filename": []byte("a")}, "value.file"},
		{vault.TypeFile, vault.Value{"file": {1}, "filename": []byte("../a")}, "value.filename"},
		{vault.TypeFile, vault.Value{"file": {1}, "filename": []byte("..")}, "value.filename"},
		{vault.TypeFile, vault.Value{"file": {1}, "filename": []byte("a\\b")}, "value.filename"},
		{vault.TypeFile, vault.Value{"file": {1}, "filename": []byte("a\nb")}, "value.filename"},
		{vault.TypeAPIKey, vault.Value{"key": []byte("sk_live_1"), "id": []byte("7")}, ""},
		{vault.TypeAPIKey, vault.Value{"key": []byte("a b")}, "value.key"},
		{vault.TypeAPIKey, vault.Value{"key": []byte("a\r\nX-Admin: 1")}, "value.key"},
		{vault.TypeAPIKey, vault.Value{"key": []byte("a"), "id": []byte("é")}, "value.id"},
		{vault.TypeAPIKey, vault.Value{"id": []byte("a")}, "value.key"},
		{"text", vault.Value{"text": []byte("a")}, "type"},
		{"", vault.Value{"text": []byte("a")}, "type"},
	} {
		_, err := Check(c.kind, c.value)
		var f *FieldError
		switch {
		case c.field == "" && err != nil:
			t.Errorf("%s: %v", c.kind, err)
		case c.field != "" && (!errors.As(err, &f) || f.Field != c.field):
			t.Errorf("%s: %v, want field %s", c.kind, err, c.field)
		case err != nil && strings.Contains(err.Error(), "hunter2"):
			t.Errorf("the error contains the input: %v", err)
		}
	}
}
