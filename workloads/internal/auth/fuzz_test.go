// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"strings"
	"testing"
)

// FuzzCondition checks that a condition is refused or evaluates; a failure never grants access.
func FuzzCondition(f *testing.F) {
	for _, seed := range []string{
		"", "true", "1 +", "1", `request.ip == '127.0.0.1'`, `principal.name.endsWith('@example.com') && path.startsWith('db/')`, `request.time < timestamp('2030-01-01T00:00:00Z')`,
		`verb in ['read', 'list']`, `cidr('10.0.0.0/8').containsIP(request.ip)`, `path.matches('(a+)+$')`, `[1,2,3].all(x, [1,2,3].all(y, x < y))`, `principal.nothing`, `1/0 == 1`,
		strings.Repeat("!", 60) + "true", strings.Repeat("(", 100), `"` + strings.Repeat("a", 5000) + `" == path`, `timestamp(path) < request.time`,
	} {
		f.Add(seed, "db/password")
	}
	f.Fuzz(func(t *testing.T, source, path string) {
		allow, err := NewPolicies([]Policy{anyone("allow", rule(Allow, "**", "*", source))})
		if err != nil {
			return
		}
		deny, err := NewPolicies([]Policy{anyone("deny", rule(Deny, "**", "*", source))})
		if err != nil {
			t.Fatalf("%q may allow, and may not deny: %v", source, err)
		}
		allowed, denied := allow.Decide(ada, "read", path, daytime).Outcome, deny.Decide(ada, "read", path, daytime).Outcome
		if (allowed != Allowed && allowed != Silent) || (denied != Denied && denied != Silent) || (allowed == Allowed && denied != Denied) {
			t.Fatalf("%q: as an allowance %s, as a denial %s", source, allowed, denied)
		}
	})
}
