// SPDX-License-Identifier: Apache-2.0

package transform

import (
	"encoding/csv"
	"errors"
	"io"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

func newCSVParser(columns []string, separator string) (parser, error) {
	comma := ','
	if separator != "" {
		first, size := utf8.DecodeRuneInString(separator)
		if size != len(separator) || first == '"' || first == '\r' || first == '\n' || first == utf8.RuneError {
			return nil, errAt("separator", "want one character for csv")
		}
		comma = first
	}
	seen := map[string]bool{}
	for i, column := range columns {
		if seen[column] {
			return nil, errAt("columns", "[%d] is there twice", i)
		}
		seen[column] = true
	}
	return func(text string) (any, error) {
		reader := csv.NewReader(strings.NewReader(text))
		reader.Comma, reader.FieldsPerRecord, reader.ReuseRecord = comma, -1, true
		row, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return nil, errors.New("the text has no CSV row")
		}
		if err != nil {
			return nil, errors.New("the text is not a valid CSV row")
		}
		if len(columns) == 0 {
			out := make([]any, len(row))
			for i, cell := range row {
				out[i] = cell
			}
			return out, nil
		}
		if len(row) != len(columns) {
			return nil, countError("columns", len(columns), len(row))
		}
		out := make(map[string]any, len(row))
		for i, cell := range row {
			out[columns[i]] = cell
		}
		return out, nil
	}, nil
}

func countError(what string, want, got int) error {
	return errors.New("want " + plural(want, what) + ", got " + plural(got, ""))
}

func plural(n int, what string) string {
	text, _ := textOf(int64(n))
	return strings.TrimSpace(text + " " + what)
}

// parseLogfmt reads key=value pairs as github.com/kr/logfmt defines them: a value may be quoted
// with backslash escapes, and a key without a value is true.
func parseLogfmt(text string) (any, error) {
	out := map[string]any{}
	for rest := text; ; {
		rest = strings.TrimLeftFunc(rest, unicode.IsSpace)
		if rest == "" {
			return out, nil
		}
		end := strings.IndexFunc(rest, func(c rune) bool { return c == '=' || c == '"' || unicode.IsSpace(c) })
		if end < 0 {
			out[rest] = true
			return out, nil
		}
		key := rest[:end]
		if key == "" || rest[end] == '"' {
			return nil, errors.New("the text is not valid logfmt: a key is missing or has a quote")
		}
		if rest[end] != '=' {
			out[key], rest = true, rest[end:]
			continue
		}
		value, after, err := logfmtValue(rest[end+1:])
		if err != nil {
			return nil, err
		}
		out[key], rest = value, after
	}
}

func logfmtValue(rest string) (value, after string, err error) {
	if !strings.HasPrefix(rest, `"`) {
		end := strings.IndexFunc(rest, unicode.IsSpace)
		if end < 0 {
			return rest, "", nil
		}
		return rest[:end], rest[end:], nil
	}
	var out strings.Builder
	for i := 1; i < len(rest); i++ {
		switch c := rest[i]; c {
		case '"':
			return out.String(), rest[i+1:], nil
		case '\\':
			if i++; i == len(rest) {
				return "", "", errUnquoted
			}
			out.WriteString(unescaped(rest[i]))
		default:
			out.WriteByte(c)
		}
	}
	return "", "", errUnquoted
}

var errUnquoted = errors.New("the text is not valid logfmt: a quote is not closed")

func unescaped(c byte) string {
	switch c {
	case 'n':
		return "\n"
	case 't':
		return "\t"
	case 'r':
		return "\r"
	default:
		return string(rune(c))
	}
}

func newKeyValueParser(separator, between string) (parser, error) {
	if between == "" {
		between = "="
	}
	return func(text string) (any, error) {
		pairs := strings.Fields(text)
		if separator != "" {
			pairs = strings.Split(text, separator)
		}
		out := make(map[string]any, len(pairs))
		for _, pair := range pairs {
			if strings.TrimSpace(pair) == "" {
				continue
			}
			key, value, found := strings.Cut(pair, between)
			if key = strings.TrimSpace(key); !found || key == "" {
				return nil, errors.New("the text is not a list of pairs of key and value")
			}
			out[key] = strings.TrimSpace(value)
		}
		return out, nil
	}, nil
}

// parseQuery parses a=1&b=2, also after the question mark of a URL. A repeated name becomes an array.
func parseQuery(text string) (any, error) {
	if _, query, found := strings.Cut(text, "?"); found {
		text = query
	}
	text, _, _ = strings.Cut(text, "#")
	values, err := url.ParseQuery(text)
	if err != nil {
		return nil, errors.New("the text is not a valid URL query")
	}
	out := make(map[string]any, len(values))
	for name, list := range values {
		if !utf8.ValidString(name) {
			return nil, errors.New("the text is not a valid URL query")
		}
		items := make([]any, len(list))
		for i, item := range list {
			items[i] = strings.ToValidUTF8(item, "\uFFFD")
		}
		out[name] = any(items)
		if len(items) == 1 {
			out[name] = items[0]
		}
	}
	return out, nil
}
