// SPDX-License-Identifier: Apache-2.0

package transform

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/itechsmart/operator/workloads/dataflow/internal/schema"
)

// MaskConfig configures the type mask.
type MaskConfig struct {
	Fields    []schema.FieldPath `json:"fields" jsonschema:"required,minItems=1"`
	Kind      string             `json:"kind,omitempty" jsonschema:"enum=text,enum=email,enum=ip,default=text,description=text masks characters; email the name before the @; ip the host part (IPv4 /24 or IPv6 /48)"`
	With      string             `json:"with,omitempty" jsonschema:"default=*,minLength=1,description=Replacement of a masked character"`
	KeepFirst int                `json:"keepFirst,omitempty" jsonschema:"minimum=0,description=Characters to keep at the start"`
	KeepLast  int                `json:"keepLast,omitempty" jsonschema:"minimum=0,description=Characters to keep at the end"`
	Length    int                `json:"length,omitempty" jsonschema:"minimum=0,maximum=1024,description=Length of the masked part; 0 keeps its own, which reveals the value's length"`
	Pattern   schema.Regexp      `json:"pattern,omitempty" jsonschema:"description=Mask only what matches this regular expression (RE2)"`
	Missing   Missing            `json:"missing,omitempty" jsonschema:"enum=Error,enum=Skip,default=Skip"`
}

func maskSpec() Spec {
	return specOf("mask", "Hides the content of text fields, in whole or in part.", newMask)
}

func newMask(cfg MaskConfig, _ Env) (any, error) {
	change := maskOf(cfg)
	if cfg.Pattern != "" {
		pattern, err := regexp.Compile(string(cfg.Pattern))
		if err != nil {
			return nil, fmt.Errorf(".pattern: %w", err)
		}
		whole := change
		change = func(text string) (string, error) {
			var failed error
			masked := pattern.ReplaceAllStringFunc(text, func(match string) string {
				out, err := whole(match)
				failed = errors.Join(failed, err)
				return out
			})
			return masked, failed
		}
	}
	return newPerField(cfg.Fields, "", cfg.Missing, func(value any) (any, error) {
		text, err := toText(value) // numbers are masked as text
		if err != nil {
			return nil, err
		}
		return change(text.(string))
	})
}

func maskOf(cfg MaskConfig) func(string) (string, error) {
	hide := func(text string) string { return maskText(text, cfg) }
	switch cfg.Kind {
	case "email":
		return func(text string) (string, error) {
			at := strings.LastIndexByte(text, '@')
			if at < 0 {
				return "", errors.New("the text is not an e-mail address")
			}
			return hide(text[:at]) + text[at:], nil
		}
	case "ip":
		return maskIP
	default:
		return func(text string) (string, error) { return hide(text), nil }
	}
}

// maskText masks all of a text that is shorter than what it should keep.
func maskText(text string, cfg MaskConfig) string {
	length := utf8.RuneCountInString(text)
	first, last := cfg.KeepFirst, cfg.KeepLast
	if first+last >= length {
		first, last = 0, 0
	}
	hidden := length - first - last
	if cfg.Length > 0 {
		hidden = cfg.Length
	}
	runes := []rune(text)
	return string(runes[:first]) + strings.Repeat(cfg.With, hidden) + string(runes[length-last:])
}

func maskIP(text string) (string, error) {
	address, err := netip.ParseAddr(text)
	if err != nil {
		return "", errors.New("the text is not an IP address")
	}
	address = address.WithZone("")
	bits := 48
	if address.Is4() || address.Is4In6() {
		address, bits = address.Unmap(), 24
	}
	prefix, err := address.Prefix(bits)
	if err != nil {
		return "", errors.New("the text is not an IP address")
	}
	return prefix.Addr().String(), nil
}
