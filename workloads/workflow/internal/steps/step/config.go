// SPDX-License-Identifier: Apache-2.0

package step

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/itechsmart/operator/workloads/workflow/internal/engine"
)

// maxProblems bounds the problems in one error.
const maxProblems = 20

// Config reads an evaluated `with`, whose expressions may have returned anything. It collects all problems, with the paths of their
// fields, for Err.
type Config struct {
	values   map[string]any
	known    []string
	problems []string
}

// Read returns a Config of the given fields.
func Read(values map[string]any) *Config { return &Config{values: values} }

// Problem adds a problem of a field.
func (c *Config) Problem(field, format string, args ...any) {
	c.problems = append(c.problems, "with."+field+": "+fmt.Sprintf(format, args...))
}

// Err returns an error with all problems, including unknown fields, or nil. Call it after reading the last field.
func (c *Config) Err() error {
	for name := range c.values {
		if !slices.Contains(c.known, name) {
			c.Problem(brief(name), "unknown field; valid are %s", list(c.known))
		}
	}
	return c.Problems()
}

// Problems is Err without the check for unknown fields.
func (c *Config) Problems() error {
	if len(c.problems) == 0 {
		return nil
	}
	slices.Sort(c.problems)
	if more := len(c.problems) - maxProblems; more > 0 {
		c.problems = append(c.problems[:maxProblems], fmt.Sprintf("and %d more", more))
	}
	return Refuse("%s", strings.Join(c.problems, "; "))
}

// Any returns the field's value, and reports whether it is present.
func (c *Config) Any(field string) (value any, ok bool) {
	c.known = append(c.known, field)
	value, ok = c.values[field]
	return value, ok
}

// Given reports whether a field is neither absent nor null.
func (c *Config) Given(field string) bool { return c.values[field] != nil }

func (c *Config) given(field string) (any, bool) {
	value, _ := c.Any(field)
	return value, value != nil
}

// Text returns a string, or otherwise if the field is absent.
func (c *Config) Text(field, otherwise string) string {
	value, ok := c.given(field)
	if !ok {
		return otherwise
	}
	text, ok := value.(string)
	if !ok {
		c.Problem(field, "want a string, not %s", Kind(value))
	}
	return text
}

// Required returns a string that is not empty.
func (c *Config) Required(field string) string {
	value, ok := c.given(field)
	text, isText := value.(string)
	switch {
	case !ok, isText && text == "":
		c.Problem(field, "is required")
	case !isText:
		c.Problem(field, "want a string, not %s", Kind(value))
	}
	return text
}

// OneOf returns one of the choices, or the first one if the field is absent.
func (c *Config) OneOf(field string, choices ...string) string {
	text := c.Text(field, choices[0])
	if !slices.Contains(choices, text) {
		c.Problem(field, "want one of %s", list(choices))
	}
	return text
}

// Bool returns a boolean, or false if the field is absent.
func (c *Config) Bool(field string) bool {
	value, ok := c.given(field)
	yes, isBool := value.(bool)
	if ok && !isBool {
		c.Problem(field, "want true or false, not %s", Kind(value))
	}
	return yes
}

// Int returns an integer within the bounds, or otherwise if the field is absent.
func (c *Config) Int(field string, otherwise, least, most int) int {
	value, ok := c.given(field)
	if !ok {
		return otherwise
	}
	n, ok := Whole(value)
	if !ok || n < int64(least) || n > int64(most) {
		c.Problem(field, "want a whole number from %d to %d", least, most)
		return otherwise
	}
	return int(n)
}

// Whole returns a number without a fraction.
func Whole(value any) (int64, bool) {
	switch n := value.(type) {
	case int64:
		return n, true
	case int:
		return int64(n), true
	case float64:
		if n == math.Trunc(n) && math.Abs(n) < 1<<53 {
			return int64(n), true
		}
	}
	return 0, false
}

// Duration returns a positive duration up to most, or otherwise if the field is absent.
func (c *Config) Duration(field string, otherwise, most time.Duration) time.Duration {
	text := c.Text(field, "")
	if text == "" {
		return otherwise
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 || d > most {
		c.Problem(field, `want a duration up to %s, such as "1m30s"`, most)
		return otherwise
	}
	return d
}

// Texts returns an object of strings. It converts numbers and booleans to strings.
func (c *Config) Texts(field string) map[string]string {
	value, ok := c.given(field)
	if !ok {
		return nil
	}
	object, ok := value.(map[string]any)
	if !ok {
		c.Problem(field, "want an object of strings, not %s", Kind(value))
		return nil
	}
	out := make(map[string]string, len(object))
	for name, item := range object {
		switch item.(type) {
		case string, bool, int64, int, float64:
			out[name] = fmt.Sprint(item)
		default:
			c.Problem(field+"."+brief(name), "want a string, not %s", Kind(item))
		}
	}
	return out
}

// List returns a list with elements of any type.
func (c *Config) List(field string) []any {
	value, ok := c.given(field)
	if !ok {
		return nil
	}
	items, ok := value.([]any)
	if !ok {
		c.Problem(field, "want a list, not %s", Kind(value))
	}
	return items
}

// Kind returns the JSON type of a value, with an article.
func Kind(value any) string {
	switch value.(type) {
	case nil:
		return "null"
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case int, int64, float64:
		return "a number"
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	}
	return fmt.Sprintf("%T", value)
}

// brief truncates a name for a message.
func brief(name string) string {
	const most = 64
	if len(name) > most {
		name = name[:most] + "…"
	}
	return strings.ToValidUTF8(name, "�")
}

func list(names []string) string {
	names = slices.Clone(names)
	slices.Sort(names)
	names = slices.Compact(names)
	return strings.Join(names, ", ")
}

const maxDepth = 100

// Check returns an error if an output cannot be encoded as JSON of about the given size.
func Check(output any, most int) error {
	size, err := measure(output, "output", 0, most)
	if err == nil && size > most {
		err = fmt.Errorf("output has more than %d bytes: return only what later steps need", most)
	}
	if err != nil {
		return &engine.Permanent{Err: err}
	}
	return nil
}

func measure(value any, path string, depth, most int) (size int, err error) {
	if depth > maxDepth {
		return 0, fmt.Errorf("%s: nested deeper than %d levels", "output", maxDepth)
	}
	switch v := value.(type) {
	case nil, bool, int64:
		return 4, nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return 0, fmt.Errorf("%s: JSON has no number %v", path, v)
		}
		return 8, nil
	case string:
		if !utf8.ValidString(v) {
			return 0, fmt.Errorf("%s: text is not valid UTF-8", path)
		}
		return len(v) + 2, nil
	case []any:
		for i, item := range v {
			n, err := measure(item, fmt.Sprintf("%s[%d]", path, i), depth+1, most)
			if size += n + 1; err != nil || size > most {
				return size, err
			}
		}
		return size + 2, nil
	case map[string]any:
		for name, item := range v {
			if !utf8.ValidString(name) {
				return 0, fmt.Errorf("%s: a name is not valid UTF-8", path)
			}
			n, err := measure(item, path+"."+brief(name), depth+1, most)
			if size += n + len(name) + 4; err != nil || size > most {
				return size, err
			}
		}
		return size + 2, nil
	}
	return 0, fmt.Errorf("%s: a %T is not JSON", path, value)
}
