// SPDX-License-Identifier: Apache-2.0

package material

import (
	"encoding/binary"

	vault "github.com/itechsmart/operator/workloads/vault/client"
)

// manifestFormat is the first byte of an encoded Manifest, as valueFormat is that of a value.
const manifestFormat = 2

// Manifest takes the place of a value: the value is a file whose content is stored in parts elsewhere.
type Manifest struct {
	Content    string // id of the parts
	Size       int64  // bytes of the content
	ChunkBytes int64  // bytes of each part but the last, which may have less
	MAC        []byte // of the content
	Filename   string
}

// Chunks returns the number of parts of the content.
func (m Manifest) Chunks() int64 { return (m.Size + m.ChunkBytes - 1) / m.ChunkBytes }

// ChunkSize returns the size of a part in bytes.
func (m Manifest) ChunkSize(number int64) int64 {
	return min(m.ChunkBytes, m.Size-number*m.ChunkBytes)
}

// The field names of an encoded manifest.
const (
	manifestContent, manifestSize, manifestChunk = "content", "size", "chunk"
	manifestMAC, manifestFilename                = "mac", "filename"
)

// Encode encodes a manifest; Decode does not accept the result as a value.
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

// IsManifest reports whether data is a manifest rather than a value.
func IsManifest(data []byte) bool { return len(data) > 0 && data[0] == manifestFormat }

// DecodeManifest decodes a manifest; ErrEncoding.
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
