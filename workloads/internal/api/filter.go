// SPDX-License-Identifier: Apache-2.0

package api

import (
	"strconv"
	"strings"
	"time"
)

// Filter builds the WHERE clause of a list. Input of a client is an argument, never SQL; columns and operators are the
// program's own. A filter with a zero value is omitted.
type Filter struct {
	clauses []string
	args    []any
}

// Equal keeps rows whose column is value.
func (f *Filter) Equal(column, value string) {
	if value != "" {
		f.Add(column+" = ?", value)
	}
}

// Prefix keeps rows whose column starts with prefix: an index with text_pattern_ops serves it.
func (f *Filter) Prefix(column, prefix string) {
	if prefix != "" {
		f.Add(column+` LIKE ? ESCAPE '\'`, likeEscape.Replace(prefix)+"%")
	}
}

var likeEscape = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)

// Since keeps rows whose column is at or after t, Until those before it.
func (f *Filter) Since(column string, t time.Time) {
	if !t.IsZero() {
		f.Add(column+" >= ?", t)
	}
}

// Until keeps rows whose column is before t.
func (f *Filter) Until(column string, t time.Time) {
	if !t.IsZero() {
		f.Add(column+" < ?", t)
	}
}

// Add keeps rows for which a clause holds; each ? in it is the next value.
func (f *Filter) Add(clause string, values ...any) {
	parts := strings.Split(clause, "?")
	if len(parts) != len(values)+1 {
		panic("api.Filter: " + clause + " does not take " + strconv.Itoa(len(values)) + " values")
	}
	var out strings.Builder
	out.WriteString(parts[0])
	for i, part := range parts[1:] {
		f.args = append(f.args, values[i]) //nolint:gosec // G602: the lengths were compared above
		out.WriteString("$" + strconv.Itoa(len(f.args)) + part)
	}
	f.clauses = append(f.clauses, out.String())
}

// Where returns " WHERE …", or empty without a clause.
func (f *Filter) Where() string {
	if len(f.clauses) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(f.clauses, " AND ")
}

// Limit returns " LIMIT …" of one row more than the page has, which shows whether there is a next page; call it last.
func (f *Filter) Limit(page Page) string {
	f.args = append(f.args, page.Limit+1)
	return " LIMIT $" + strconv.Itoa(len(f.args))
}

// Args returns the arguments of the query.
func (f *Filter) Args() []any { return f.args }

// PageOf returns a page of a list from up to limit+1 items; next makes the cursor from its last item.
func PageOf[T any](page Page, items []T, next func(last T) string) List[T] {
	if items == nil {
		items = []T{}
	}
	if len(items) <= page.Limit {
		return List[T]{Items: items}
	}
	items = items[:page.Limit]
	return List[T]{Items: items, Next: next(items[len(items)-1])}
}
