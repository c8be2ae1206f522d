// SPDX-License-Identifier: Apache-2.0

package transform

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"unicode/utf8"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/internal/schema"
)

// ParseConfig configures the type parse.
type ParseConfig struct {
	Field   schema.FieldPath `json:"field,omitempty" jsonschema:"description=The text field to parse; default: the whole value, which may be any bytes"`
	Format  string           `json:"format" jsonschema:"required,enum=json,enum=csv,enum=logfmt,enum=keyvalue,enum=regexp,enum=grok,enum=xml,enum=syslog,enum=url"`
	Target  schema.FieldPath `json:"target,omitempty" jsonschema:"description=Where the result goes; default: in place of the field. The fields of an object can be merged into the record with 'merge'"`
	Merge   bool             `json:"merge,omitempty" jsonschema:"description=Put the result's fields into the record itself; the parsed field is removed"`
	Missing Missing          `json:"missing,omitempty" jsonschema:"enum=Error,enum=Skip,default=Error"`

	Columns        []string `json:"columns,omitempty" jsonschema:"description=csv: names of the columns; without them the result is an array"`
	Separator      string   `json:"separator,omitempty" jsonschema:"description=csv: one character\\, default a comma; keyvalue: between pairs\\, default white space"`
	ValueSeparator string   `json:"valueSeparator,omitempty" jsonschema:"description=keyvalue: between key and value; default ="`
	Pattern        string   `json:"pattern,omitempty" jsonschema:"description=regexp: RE2 with named groups; grok: text with %{PATTERN:field:type}"`
}

// parser turns text into a decoded value. Its error says what is wrong without quoting the text.
type parser func(text string) (any, error)

// MaxParsed is the most bytes a parser reads.
const MaxParsed = 64 << 20

type parseStep struct {
	from, to *field
	merge    bool
	missing  Missing
	parse    parser
}

func parseSpec() Spec {
	return specOf("parse", "Parses text: JSON, CSV, logfmt, key-value pairs, regular expression, grok, XML, syslog, URL query.", newParse)
}

func newParse(cfg ParseConfig, _ Env) (any, error) {
	out := &parseStep{merge: cfg.Merge, missing: cfg.Missing}
	var err error
	if out.parse, err = parserOf(cfg); err != nil {
		return nil, err
	}
	if out.from, err = optionalField("field", cfg.Field); err != nil {
		return nil, err
	}
	if out.to, err = optionalField("target", cfg.Target); err != nil {
		return nil, err
	}
	switch {
	case cfg.Merge && (cfg.Field == "" || cfg.Target != ""):
		return nil, errAt("merge", "goes with 'field' and without 'target'")
	case cfg.Target != "" && cfg.Field == "":
		return nil, errAt("target", "goes with 'field'")
	case out.to == nil:
		out.to = out.from
	}
	return out, nil
}

func parserOf(cfg ParseConfig) (parser, error) {
	if cfg.Pattern != "" && cfg.Format != "regexp" && cfg.Format != "grok" {
		return nil, errAt("pattern", "goes with regexp and grok")
	}
	switch cfg.Format {
	case "json":
		return func(text string) (any, error) { return record.Decode([]byte(text)) }, nil
	case "csv":
		return newCSVParser(cfg.Columns, cfg.Separator)
	case "logfmt":
		return parseLogfmt, nil
	case "keyvalue":
		return newKeyValueParser(cfg.Separator, cfg.ValueSeparator)
	case "regexp":
		return newRegexpParser(cfg.Pattern)
	case "grok":
		return newGrokParser(cfg.Pattern)
	case "xml":
		return parseXML, nil
	case "syslog":
		return parseSyslog, nil
	default:
		return parseQuery, nil
	}
}

// Map parses.
func (p *parseStep) Map(_ context.Context, r *record.Record) error {
	if p.from == nil {
		return p.whole(r)
	}
	object, err := r.Object()
	if err != nil {
		return err
	}
	value, ok := p.from.get(object)
	if !ok || value == nil {
		if p.missing == MissingSkip {
			return nil
		}
		return p.from.errorf("is missing")
	}
	text, ok := value.(string)
	if !ok {
		return p.from.errorf("want a string, got %s", article(value))
	}
	parsed, err := p.parse(text)
	if err != nil {
		return p.from.errorf("%w", err)
	}
	r.Changed()
	if !p.merge {
		return p.to.set(object, parsed)
	}
	fields, ok := parsed.(map[string]any)
	if !ok {
		return p.from.errorf("want an object to merge, got %s", article(parsed))
	}
	p.from.remove(object)
	for name, value := range fields {
		object[name] = value
	}
	return nil
}

func (p *parseStep) whole(r *record.Record) error {
	data, err := r.Bytes()
	if err != nil {
		return err
	}
	if len(data) > MaxParsed {
		return fmt.Errorf("value is larger than %d bytes", MaxParsed)
	}
	if !utf8.Valid(data) {
		return record.ErrNotUTF8
	}
	parsed, err := p.parse(string(data))
	if err != nil {
		return err
	}
	r.SetTree(parsed)
	return nil
}

func newRegexpParser(source string) (parser, error) {
	pattern, err := regexp.Compile(source)
	if err != nil {
		return nil, errAt("pattern", "%w", err)
	}
	return groupsParser(pattern, nil)
}

var errNoMatch = errors.New("the text does not match the pattern")

// groupsParser returns a parser for the named groups that matched.
func groupsParser(pattern *regexp.Regexp, casts map[string]func(any) (any, error)) (parser, error) {
	names, named := pattern.SubexpNames(), 0
	for _, name := range names {
		if name != "" {
			named++
		}
	}
	if named == 0 {
		return nil, errAt("pattern", "has no named group: (?P<name>…)")
	}
	return func(text string) (any, error) {
		match := pattern.FindStringSubmatchIndex(text)
		if match == nil {
			return nil, errNoMatch
		}
		out := make(map[string]any, named)
		for i, name := range names {
			if name == "" || match[2*i] < 0 {
				continue
			}
			var value any = text[match[2*i]:match[2*i+1]]
			if cast := casts[name]; cast != nil {
				converted, err := cast(value)
				if err != nil {
					return nil, field{text: name}.errorf("%w", err)
				}
				value = converted
			}
			out[name] = value
		}
		return out, nil
	}, nil
}
