// SPDX-License-Identifier: Apache-2.0

package transform

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/url"
	"unicode/utf8"

	"github.com/itechsmart/operator/workloads/dataflow/internal/schema"
)

// EncodeConfig configures the types encode and decode.
type EncodeConfig struct {
	Fields  []schema.FieldPath `json:"fields" jsonschema:"required,minItems=1"`
	As      string             `json:"as" jsonschema:"required,enum=base64,enum=base64url,enum=hex,enum=url,description=base64url is without padding; url is percent-encoding"`
	Target  schema.FieldPath   `json:"target,omitempty" jsonschema:"description=Where the result goes; default: in place of the field"`
	Missing Missing            `json:"missing,omitempty" jsonschema:"enum=Error,enum=Skip,default=Skip"`
}

func encodeSpec() Spec {
	return specOf("encode", "Encodes text fields as base64, hex or percent-encoding.", func(cfg EncodeConfig, _ Env) (any, error) {
		encode := map[string]func(string) string{
			"base64":    func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) },
			"base64url": func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) },
			"hex":       func(text string) string { return hex.EncodeToString([]byte(text)) },
			"url":       url.QueryEscape,
		}[cfg.As]
		return newPerField(cfg.Fields, cfg.Target, cfg.Missing, onText(func(text string) (any, error) { return encode(text), nil }))
	})
}

func decodeSpec() Spec {
	return specOf("decode", "Decodes text fields from base64, hex or percent-encoding.", func(cfg EncodeConfig, _ Env) (any, error) {
		decode := map[string]func(string) (string, error){
			"base64": func(text string) (string, error) {
				data, err := base64.StdEncoding.DecodeString(text)
				return string(data), err
			},
			"base64url": func(text string) (string, error) {
				data, err := base64.RawURLEncoding.DecodeString(text)
				return string(data), err
			},
			"hex": func(text string) (string, error) { data, err := hex.DecodeString(text); return string(data), err },
			"url": url.QueryUnescape,
		}[cfg.As]
		return newPerField(cfg.Fields, cfg.Target, cfg.Missing, onText(func(text string) (any, error) {
			decoded, err := decode(text)
			if err != nil {
				return nil, errors.New("the text is not valid " + cfg.As)
			}
			if !utf8.ValidString(decoded) {
				return nil, errors.New("the decoded text is not valid UTF-8")
			}
			return decoded, nil
		}))
	})
}
