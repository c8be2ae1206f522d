// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/itechsmart/operator/workloads/internal/api"
)

// TestFilter lists a table page by page, with filters that SQL might misinterpret.
func TestFilter(t *testing.T) {
	pool := postgres(t)
	day := func(n int) time.Time { return time.Date(2026, 1, n, 0, 0, 0, 0, time.UTC) }
	if _, err := pool.Exec(t.Context(), `CREATE TABLE things (name text COLLATE "C" PRIMARY KEY, owner text, made timestamptz);
		INSERT INTO things VALUES ('a', 'x', '2026-01-01Z'), ('a%b', 'x', '2026-01-02Z'), ('a%c', 'y', '2026-01-03Z'), ('a\d', 'x', '2026-01-04Z'), ('a_e', 'x', '2026-01-05Z'), ('ab', 'x', '2026-01-06Z')`); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		filter func(*api.Filter)
		want   string
	}{
		"all":        {func(*api.Filter) {}, `a a%b a%c a\d a_e ab`},
		"zero":       {func(f *api.Filter) { f.Equal("owner", ""); f.Prefix("name", ""); f.Since("made", time.Time{}) }, `a a%b a%c a\d a_e ab`},
		"equal":      {func(f *api.Filter) { f.Equal("owner", "y") }, "a%c"},
		"percent":    {func(f *api.Filter) { f.Prefix("name", "a%") }, "a%b a%c"},
		"underscore": {func(f *api.Filter) { f.Prefix("name", "a_") }, "a_e"},
		"backslash":  {func(f *api.Filter) { f.Prefix("name", `a\`) }, `a\d`},
		"injection":  {func(f *api.Filter) { f.Equal("owner", "x' OR '1'='1") }, ""},
		"time":       {func(f *api.Filter) { f.Since("made", day(2)); f.Until("made", day(5)); f.Equal("owner", "x") }, `a%b a\d`},
		"two values": {func(f *api.Filter) { f.Add("(name, owner) > (?, ?)", "a_e", "x") }, "ab"},
	} {
		var names []string
		page, last := api.Page{Limit: 2}, ""
		for range 10 {
			var f api.Filter
			c.filter(&f)
			if last != "" {
				f.Add("name > ?", last)
			}
			query := "SELECT name FROM things" + f.Where() + " ORDER BY name" + f.Limit(page)
			rows, err := pool.Query(t.Context(), query, f.Args()...)
			if err != nil {
				t.Fatal(err)
			}
			found, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				t.Fatalf("%s: %v", query, err)
			}
			answer := api.PageOf(page, found, func(last string) string { return last })
			names = append(names, answer.Items...)
			if last = answer.Next; last == "" {
				break
			}
		}
		if got := strings.Join(names, " "); got != c.want || !slices.IsSorted(names) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
