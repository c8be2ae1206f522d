// SPDX-License-Identifier: Apache-2.0

package material

import (
	"encoding/binary"

	vault "github.com/itechsmart/operator/workloads/vault/client"
)

// manifestFormat is the first byte of an encoded Manifest, as valueFormat is that of a value.
const manifestFormat = 2

// Manifest stands where a value would: the value is a file whose content is in parts elsewhere.
type Manifest struct {
	Content    string // id of the parts
	Size       int64  // bytes of the content
	ChunkBytes int64  // bytes of each part but the last, which may have less
	MAC        []byte // of the content
	Filename   string
}

// Chunks returns how many parts the content has.
func (m Manifest) Chunks() int64 { return (m.Size + m.ChunkBytes - 1) / m.ChunkBytes }

// ChunkSize returns how many bytes a part has.
func (m Manifest) ChunkSize(number int64) int64 {
	return min(m.ChunkBytes, m.Size-number*m.ChunkBytes)
}

// The names under which a manifest's fields are encoded.
const (
	manifestContent, manifestSize, manifestChunk = "content", "size", "chunk"
	manifestMAC, manifestFilename                = "mac", "filename"
)

// Encode writes a manifest as bytes that Decode takes for no value.
func (m Manifest) Encode() ([]byte, error) {
	data, err := Encode(vault.Value{
		manifestContent: []byte(m.Content), manifestSize: binary.BigEndian.AppendUint64(nil, uint64(m.Size)),
		manifestChunk: binary.BigEndian.AppendUint64(nil, uint64(m.ChunkBytes)), manifestMAC: m.MAC, manifestFilename: []byte(m.Filename),
	})
	if err != nil {
		return nil, err
	}
	data[0] = manifestFormat
	return data, nil
}

// IsManifest reports whether bytes are a manifest, and no value.
func IsManifest(data []byte) bool { return len(data) > 0 && data[0] == manifestFormat }

// DecodeManifest reads what Encode wrote; ErrEncoding.
func DecodeManifest(data []byte) (Manifest, error) {
	if !IsManifest(data) {
		return Manifest{}, ErrEncoding
	}
	v, err := decodeFields(data[1:])
	if err != nil {
		return Manifest{}, err
	}
	if len(v[manifestSize]) != 8 || len(v[manifestChunk]) != 8 {
		return Manifest{}, ErrEncoding
	}
	m := Manifest{
		Content: string(v[manifestContent]), MAC: v[manifestMAC], Filename: string(v[manifestFilename]),
		Size: int64(binary.BigEndian.Uint64(v[manifestSize])), ChunkBytes: int64(binary.BigEndian.Uint64(v[manifestChunk])),
	}
	if m.Content == "" || m.Size <= 0 || m.ChunkBytes <= 0 || len(m.MAC) == 0 {
		return Manifest{}, ErrEncoding
	}
	return m, nil
}
