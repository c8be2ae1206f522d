// SPDX-License-Identifier: Apache-2.0

package transform

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"

	"github.com/zeebo/xxh3"

	"github.com/itechsmart/operator/workloads/dataflow/internal/schema"
)

// HashConfig configures the type hash.
type HashConfig struct {
	Fields    []schema.FieldPath `json:"fields" jsonschema:"required,minItems=1"`
	Algorithm string             `json:"algorithm,omitempty" jsonschema:"enum=sha256,enum=sha512,enum=xxh3,default=sha256,description=xxh3 is fast but not for secrets"`
	Encoding  string             `json:"encoding,omitempty" jsonschema:"enum=hex,enum=base64,default=hex"`
	Target    schema.FieldPath   `json:"target,omitempty" jsonschema:"description=Where the hash goes; default: in place of the field"`
	Missing   Missing            `json:"missing,omitempty" jsonschema:"enum=Error,enum=Skip,default=Error"`
}

func hashSpec() Spec {
	return specOf("hash", "Replaces fields by their hash; objects and arrays are hashed as JSON with sorted keys.", newHash)
}

func newHash(cfg HashConfig, _ Env) (any, error) {
	sum := map[string]func([]byte) []byte{
		"sha256": func(data []byte) []byte { sum := sha256.Sum256(data); return sum[:] },
		"sha512": func(data []byte) []byte { sum := sha512.Sum512(data); return sum[:] },
		"xxh3":   func(data []byte) []byte { return binary.BigEndian.AppendUint64(nil, xxh3.Hash(data)) },
	}[cfg.Algorithm]
	encode := hex.EncodeToString
	if cfg.Encoding == "base64" {
		encode = base64.StdEncoding.EncodeToString
	}
	return newPerField(cfg.Fields, cfg.Target, cfg.Missing, func(value any) (any, error) {
		text, err := toText(value)
		if err != nil {
			return nil, err
		}
		return encode(sum([]byte(text.(string)))), nil
	})
}
