// SPDX-License-Identifier: Apache-2.0

package transform

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/itechsmart/operator/workloads/dataflow/internal/schema"
)

// TextConfig configures the type text.
type TextConfig struct {
	Fields    []schema.FieldPath `json:"fields" jsonschema:"required,minItems=1"`
	Operation string             `json:"operation" jsonschema:"required,enum=lower,enum=upper,enum=trim,enum=collapse,description=collapse turns every run of white space into one space"`
	Missing   Missing            `json:"missing,omitempty" jsonschema:"enum=Error,enum=Skip,default=Skip"`
}

func textSpec() Spec {
	return specOf("text", "Changes the case or the white space of text fields.", newText)
}

func newText(cfg TextConfig, _ Env) (any, error) {
	change := map[string]func(string) string{
		"lower": strings.ToLower, "upper": strings.ToUpper, "trim": strings.TrimSpace,
		"collapse": func(text string) string { return strings.Join(strings.Fields(text), " ") },
	}[cfg.Operation]
	return newPerField(cfg.Fields, "", cfg.Missing, onText(func(text string) (any, error) { return change(text), nil }))
}

// ReplaceConfig configures the type replace.
type ReplaceConfig struct {
	Fields  []schema.FieldPath `json:"fields" jsonschema:"required,minItems=1"`
	Pattern schema.Regexp      `json:"pattern" jsonschema:"required,minLength=1,description=Regular expression (RE2)"`
	With    string             `json:"with,omitempty" jsonschema:"description=Replacement of a match; $1 or ${name} inserts a group"`
	Missing Missing            `json:"missing,omitempty" jsonschema:"enum=Error,enum=Skip,default=Skip"`
}

func replaceSpec() Spec {
	return specOf("replace", "Replaces what matches a regular expression in text fields.", newReplace)
}

// maxGrowth limits the result of a replacement, in bytes.
const maxGrowth = 64 << 20

func newReplace(cfg ReplaceConfig, _ Env) (any, error) {
	pattern, err := regexp.Compile(string(cfg.Pattern))
	if err != nil {
		return nil, fmt.Errorf(".pattern: %w", err)
	}
	return newPerField(cfg.Fields, "", cfg.Missing, onText(func(text string) (any, error) {
		if len(cfg.With)*(len(text)+1) > maxGrowth {
			return nil, errors.New("the result could be too large")
		}
		return pattern.ReplaceAllString(text, cfg.With), nil
	}))
}

// TruncateConfig configures the type truncate.
type TruncateConfig struct {
	Fields  []schema.FieldPath `json:"fields" jsonschema:"required,minItems=1"`
	Length  int                `json:"length" jsonschema:"required,minimum=0,description=Characters to keep"`
	Suffix  string             `json:"suffix,omitempty" jsonschema:"description=Appended to a text that was cut"`
	Missing Missing            `json:"missing,omitempty" jsonschema:"enum=Error,enum=Skip,default=Skip"`
}

func truncateSpec() Spec {
	return specOf("truncate", "Cuts text fields to a length in characters.", newTruncate)
}

func newTruncate(cfg TruncateConfig, _ Env) (any, error) {
	return newPerField(cfg.Fields, "", cfg.Missing, onText(func(text string) (any, error) {
		if utf8.RuneCountInString(text) <= cfg.Length {
			return text, nil
		}
		count := 0
		for i := range text {
			if count == cfg.Length {
				return text[:i] + cfg.Suffix, nil
			}
			count++
		}
		return text, nil
	}))
}

// SplitConfig configures the type split.
type SplitConfig struct {
	Fields    []schema.FieldPath `json:"fields" jsonschema:"required,minItems=1"`
	Separator string             `json:"separator,omitempty" jsonschema:"default=\\,,minLength=1"`
	Trim      bool               `json:"trim,omitempty" jsonschema:"description=Trim white space from the parts and leave out empty parts"`
	Target    schema.FieldPath   `json:"target,omitempty" jsonschema:"description=Where the array goes; default: in place of the field"`
	Missing   Missing            `json:"missing,omitempty" jsonschema:"enum=Error,enum=Skip,default=Skip"`
}

func splitSpec() Spec {
	return specOf("split", "Splits a text into an array.", newSplit)
}

func newSplit(cfg SplitConfig, _ Env) (any, error) {
	return newPerField(cfg.Fields, cfg.Target, cfg.Missing, onText(func(text string) (any, error) {
		parts := []any{}
		for part := range strings.SplitSeq(text, cfg.Separator) {
			if cfg.Trim {
				if part = strings.TrimSpace(part); part == "" {
					continue
				}
			}
			parts = append(parts, part)
		}
		return parts, nil
	}))
}

// JoinConfig configures the type join.
type JoinConfig struct {
	Fields    []schema.FieldPath `json:"fields" jsonschema:"required,minItems=1"`
	Separator string             `json:"separator,omitempty" jsonschema:"default=\\,"`
	Target    schema.FieldPath   `json:"target,omitempty" jsonschema:"description=Where the text goes; default: in place of the field"`
	Missing   Missing            `json:"missing,omitempty" jsonschema:"enum=Error,enum=Skip,default=Skip"`
}

func joinSpec() Spec {
	return specOf("join", "Joins the texts, numbers and booleans of an array into one text.", newJoin)
}

func newJoin(cfg JoinConfig, _ Env) (any, error) {
	return newPerField(cfg.Fields, cfg.Target, cfg.Missing, func(value any) (any, error) {
		items, ok := value.([]any)
		if !ok {
			return nil, fmt.Errorf("want an array, got %s", article(value))
		}
		parts := make([]string, len(items))
		for i, item := range items {
			if parts[i], ok = textOf(item); !ok {
				return nil, fmt.Errorf("item %d is %s, want a text, number or boolean", i, article(item))
			}
		}
		return strings.Join(parts, cfg.Separator), nil
	})
}
