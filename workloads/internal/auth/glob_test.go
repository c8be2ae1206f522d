// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"path"
	"strings"
	"testing"
	"time"
)

func TestGlob(t *testing.T) {
	ada := &Principal{Kind: KindUser, ID: "u-1", Name: "ada@example.com"}
	star := &Principal{Kind: KindUser, ID: "*", Name: "**"}
	pod := &Principal{Kind: KindServiceAccount, ID: "team-a/app", Name: "team-a/app"}
	for _, c := range []struct {
		pattern string
		who     *Principal
		path    string
		want    bool
	}{
		{"db/password", nil, "db/password", true},
		{"db/password", nil, "db/passwords", false},
		{"db/*", nil, "db/password", true},
		{"db/*", nil, "db/a/b", false},
		{"db/*", nil, "db", false},
		{"db/*", nil, "db/", false},
		{"db/**", nil, "db/a/b/c", true},
		{"db/**", nil, "db", true},
		{"db/**", nil, "dbx", false},
		{"**", nil, "anything/at/all", true},
		{"**/password", nil, "a/b/password", true},
		{"**/password", nil, "password", true},
		{"**/password", nil, "a/password/b", false},
		{"a/**/z", nil, "a/z", true},
		{"a/**/z", nil, "a/b/z/c/z", true},
		{"a/**/z", nil, "a/b/z/c", false},
		{"a/**/b/**/c", nil, "a/x/b/y/b/c", true},
		{"db-*-prod", nil, "db-a-b-prod", true},
		{"db-*-prod", nil, "db-a/b-prod", false},
		{"*a*b*", nil, "xxaxxbxx", true},
		{"*a*b*", nil, "xxbxxaxx", false},
		{"a.b", nil, "axb", false}, // not a regular expression
		{"users/{{principal.id}}/**", ada, "users/u-1/x", true},
		{"users/{{ principal.id }}/**", ada, "users/u-1/x", true},
		{"users/{{principal.id}}/**", ada, "users/u-2/x", false},
		{"users/{{principal.id}}/**", nil, "users/u-1/x", false},
		{"users/{{principal.id}}/**", &Principal{}, "users//x", false},
		{"users/{{principal.id}}/x", star, "users/u-1/x", false},
		{"users/{{principal.id}}/x", star, "users/*/x", true},
		{"users/{{principal.name}}", star, "users/a/b", false},
		{"apps/{{principal.id}}/*", pod, "apps/team-a/app/key", true},
		{"apps/{{principal.id}}/*", pod, "apps/team-a/other/key", false},
		{"u-{{principal.name}}-x", ada, "u-ada@example.com-x", true},
	} {
		g, err := compileGlob(c.pattern)
		if err != nil {
			t.Errorf("%s: %v", c.pattern, err)
			continue
		}
		if got := g.match(strings.Split(c.path, "/"), c.who); got != c.want {
			t.Errorf("%s on %s: %t, want %t", c.pattern, c.path, got, c.want)
		}
	}
}

func TestGlobRefuses(t *testing.T) {
	for _, pattern := range []string{"", "/", "a//b", "a/", "/a", "a**", "**a/b", "***", "{{principal.password}}", "{{principal.id", "}}", "{a}",
		"{{}}", strings.Repeat("a", maxGlob+1), strings.Repeat("*a", maxStars+1)} {
		if _, err := compileGlob(pattern); err == nil {
			t.Errorf("%q was accepted", pattern)
		}
	}
}

// FuzzGlob checks that nothing panics or takes long, that a literal pattern matches only itself, and that patterns of
// single stars agree with path.Match.
func FuzzGlob(f *testing.F) {
	for _, seed := range [][2]string{{"db/*", "db/a"}, {"a/**/b", "a/x/b"}, {"u/{{principal.id}}/**", "u/1/x"}, {"*a*a*a*a*b", strings.Repeat("a", 200)},
		{"**/a/**/a/**/a/**/b", strings.Repeat("a/", 100)}} {
		f.Add(seed[0], seed[1])
	}
	who := &Principal{ID: "*/**", Name: "{{principal.id}}"}
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if len(text) > 1<<12 {
			return
		}
		g, err := compileGlob(pattern)
		if err != nil {
			return
		}
		segments := strings.Split(text, "/")
		start := time.Now()
		got := g.match(segments, who)
		if took := time.Since(start); took > 500*time.Millisecond {
			t.Errorf("%q on %d bytes took %s", pattern, len(text), took)
		}
		if !strings.ContainsAny(pattern, `*{}`) && got != (pattern == text) {
			t.Errorf("%q on %q: %t", pattern, text, got)
		}
		plain := !strings.Contains(pattern, "**") && !strings.ContainsAny(pattern, `{}[]?\`)
		if plain && !strings.Contains("/"+text+"/", "//") {
			if want, err := path.Match(pattern, text); err == nil && want != got {
				t.Errorf("%q on %q: %t, path.Match returns %t", pattern, text, got, want)
			}
		}
	})
}
