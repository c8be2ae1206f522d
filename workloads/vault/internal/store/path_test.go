// SPDX-License-Identifier: Apache-2.0

package store

import (
	"net/url"
	"path"
	"strings"
	"testing"
)

// FuzzPath checks accepted paths against independently written rules.
func FuzzPath(f *testing.F) {
	for _, seed := range []string{"a", "db/password", "a.b-c_d/0", "../etc/passwd", "a/../b", "a//b", "/a", "a/", "a\x00b", "A", "é", "a%2fb", ".", "a/.b", "a\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, p string) {
		if CheckPath(p) != nil {
			return
		}
		if p == "" || len(p) > 253 || path.Clean("/"+p) != "/"+p {
			t.Errorf("%q is accepted", p)
		}
		if escaped := url.PathEscape(p); strings.ReplaceAll(escaped, "%2F", "/") != p {
			t.Errorf("%q needs escaping beyond its slashes", p)
		}
		for _, segment := range strings.Split(p, "/") {
			if segment == "" || strings.Trim(segment[:1]+segment[len(segment)-1:], "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
				t.Errorf("%q has the segment %q", p, segment)
			}
		}
		if p+"\x7f" <= p || !prefixForm.MatchString(p) {
			t.Errorf("%q cannot be listed by its prefix", p)
		}
	})
}
