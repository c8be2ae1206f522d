// SPDX-License-Identifier: Apache-2.0

package material

import (
	"errors"
	"reflect"
	"testing"

	vault "github.com/itechsmart/operator/workloads/vault/client"
)

func TestManifest(t *testing.T) {
	m := Manifest{Content: "id", Size: 1001, ChunkBytes: 100, MAC: []byte("mac"), Filename: "name"}
	data, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeManifest(data)
	if err != nil || !reflect.DeepEqual(got, m) || !IsManifest(data) {
		t.Fatalf("%+v, %v", got, err)
	}
	if m.Chunks() != 11 || m.ChunkSize(0) != 100 || m.ChunkSize(10) != 1 {
		t.Errorf("%d parts, the last of %d bytes", m.Chunks(), m.ChunkSize(10))
	}
	if _, err := Decode(data); !errors.Is(err, ErrEncoding) {
		t.Errorf("as a value: %v", err)
	}
	value, err := Encode(vault.Value{"content": []byte("id"), "size": make([]byte, 8), "chunk": make([]byte, 8), "mac": {1}})
	if err != nil {
		t.Fatal(err)
	}
	cut := append([]byte(nil), value...)
	cut[0] = manifestFormat
	for name, data := range map[string][]byte{"a value": value, "a size of zero": cut, "cut": data[:len(data)-1], "longer": append(data, 0), "empty": nil, "a byte": {manifestFormat}} {
		if _, err := DecodeManifest(data); !errors.Is(err, ErrEncoding) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
