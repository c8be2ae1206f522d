// SPDX-License-Identifier: Apache-2.0

package keyring

import (
	"bytes"
	"errors"
	"testing"
)

// A part opens only for its content (another upload for the same version does not match), its number, and whether it is
// the last one.
func TestChunk(t *testing.T) {
	key := NewDataKey()
	defer key.Close()
	at := Chunk{Binding: Binding{"ns", "a/b", 3, "File"}, Content: "one", Number: 4}
	sealed, err := key.SealChunk(at, []byte("plaintext"))
	if err != nil || len(sealed) != len("plaintext")+Overhead {
		t.Fatalf("%d bytes, %v", len(sealed), err)
	}
	if got, err := key.OpenChunk(at, sealed); err != nil || string(got) != "plaintext" {
		t.Fatalf("opens as %q, %v", got, err)
	}
	if again, err := key.SealChunk(at, []byte("plaintext")); err != nil || bytes.Equal(again[:12], sealed[:12]) {
		t.Errorf("the nonce is not new: %v", err)
	}
	for name, change := range map[string]func(*Chunk){
		"another namespace": func(c *Chunk) { c.Namespace = "other" },
		"another path":      func(c *Chunk) { c.Path = "a" },
		"another version":   func(c *Chunk) { c.Version = 2 },
		"another type":      func(c *Chunk) { c.Type = "Text" },
		"another upload":    func(c *Chunk) { c.Content = "two" },
		"another number":    func(c *Chunk) { c.Number = 5 },
		"as the last":       func(c *Chunk) { c.Last = true },
	} {
		other := at
		change(&other)
		if _, err := key.OpenChunk(other, sealed); !errors.Is(err, ErrOpen) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := key.Open(at.Binding, sealed); !errors.Is(err, ErrOpen) {
		t.Errorf("as a value: %v", err)
	}
	other := NewDataKey()
	defer other.Close()
	if _, err := other.OpenChunk(at, sealed); !errors.Is(err, ErrOpen) {
		t.Errorf("another key: %v", err)
	}
}

func TestContentMAC(t *testing.T) {
	key := NewDataKey()
	defer key.Close()
	sum := func(field string, parts ...string) string {
		t.Helper()
		mac, err := key.ContentMAC(field)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range parts {
			mac.Write([]byte(p))
		}
		return string(mac.Sum(nil))
	}
	whole, err := key.MAC([]byte("content"), []byte("file"), []byte("ab"))
	if err != nil {
		t.Fatal(err)
	}
	if sum("file", "a", "b") != sum("file", "ab") || sum("file", "ab") == sum("file", "ba") || sum("file", "ab") == sum("fil", "eab") || sum("file", "ab") == string(whole) {
		t.Error("MACs of contents collide, or differ for equal ones")
	}
	key.Close()
	if _, err := key.ContentMAC("file"); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed key: %v", err)
	}
}
