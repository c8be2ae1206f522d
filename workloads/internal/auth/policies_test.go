// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

var (
	ada     = &Principal{Kind: KindUser, ID: "u-1", Name: "ada@example.com"}
	grace   = &Principal{Kind: KindUser, ID: "u-2", Name: "grace@example.com"}
	app     = &Principal{Kind: KindServiceAccount, ID: "team-a/app", Name: "team-a/app"}
	daytime = Request{IP: netip.MustParseAddr("10.1.2.3"), Time: time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)}
)

func rule(effect Effect, path, verb, when string) Rule {
	return Rule{Paths: []string{path}, Verbs: []string{verb}, Effect: effect, When: when}
}

func anyone(name string, rules ...Rule) Policy {
	return Policy{Name: name, Subjects: []Subject{{Kind: "*", Name: "*"}}, Rules: rules}
}

func TestDecide(t *testing.T) {
	for name, c := range map[string]struct {
		policies []Policy
		who      *Principal
		verb     string
		path     string
		want     Decision
	}{
		"nothing applies": {[]Policy{anyone("p", rule(Allow, "db/*", "read", ""))}, ada, "write", "db/a", Decision{Silent, ""}},
		"no policy":       {nil, ada, "read", "db/a", Decision{Silent, ""}},
		"nobody":          {[]Policy{anyone("p", rule(Allow, "**", "*", ""))}, nil, "read", "db/a", Decision{Silent, ""}},
		"allow":           {[]Policy{anyone("p", rule(Allow, "db/*", "read", ""))}, ada, "read", "db/a", Decision{Allowed, "p"}},
		"every verb":      {[]Policy{anyone("p", rule(Allow, "db/*", "*", ""))}, ada, "rotate", "db/a", Decision{Allowed, "p"}},
		"deny after allow": {[]Policy{anyone("p", rule(Allow, "**", "*", "")), anyone("q", rule(Deny, "db/*", "read", ""))},
			ada, "read", "db/a", Decision{Denied, "q"}},
		"deny before allow": {[]Policy{anyone("q", rule(Deny, "db/*", "read", "")), anyone("p", rule(Allow, "**", "*", ""))},
			ada, "read", "db/a", Decision{Denied, "q"}},
		"deny within one": {[]Policy{anyone("p", rule(Allow, "**", "*", ""), rule(Deny, "db/*", "*", ""))},
			ada, "read", "db/a", Decision{Denied, "p"}},
		"another user": {[]Policy{{Name: "p", Subjects: []Subject{{KindUser, "grace@example.com"}}, Rules: []Rule{rule(Allow, "**", "*", "")}}},
			ada, "read", "db/a", Decision{Silent, ""}},
		"by name in any case": {[]Policy{{Name: "p", Subjects: []Subject{{KindUser, "Ada@Example.com"}}, Rules: []Rule{rule(Allow, "**", "*", "")}}},
			ada, "read", "db/a", Decision{Allowed, "p"}},
		"by id": {[]Policy{{Name: "p", Subjects: []Subject{{KindUser, "u-1"}}, Rules: []Rule{rule(Allow, "**", "*", "")}}},
			ada, "read", "db/a", Decision{Allowed, "p"}},
		"accounts of a namespace": {[]Policy{{Name: "p", Subjects: []Subject{{KindServiceAccount, "team-a/*"}}, Rules: []Rule{rule(Allow, "**", "*", "")}}},
			app, "read", "db/a", Decision{Allowed, "p"}},
		"accounts of another": {[]Policy{{Name: "p", Subjects: []Subject{{KindServiceAccount, "team/*"}}, Rules: []Rule{rule(Allow, "**", "*", "")}}},
			app, "read", "db/a", Decision{Silent, ""}},
		"a user with the name of an account": {[]Policy{{Name: "p", Subjects: []Subject{{KindServiceAccount, "*"}}, Rules: []Rule{rule(Allow, "**", "*", "")}}},
			&Principal{Kind: KindUser, ID: "team-a/app", Name: "team-a/app"}, "read", "db/a", Decision{Silent, ""}},
		"own folder":     {[]Policy{anyone("p", rule(Allow, "users/{{principal.id}}/**", "*", ""))}, ada, "read", "users/u-1/a/b", Decision{Allowed, "p"}},
		"other's folder": {[]Policy{anyone("p", rule(Allow, "users/{{principal.id}}/**", "*", ""))}, grace, "read", "users/u-1/a/b", Decision{Silent, ""}},
	} {
		t.Run(name, func(t *testing.T) {
			policies, err := NewPolicies(c.policies)
			if err != nil {
				t.Fatal(err)
			}
			if got := policies.Decide(c.who, c.verb, c.path, daytime); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestConditions(t *testing.T) {
	for when, met := range map[string]bool{
		`verb == "read"`:                                       true,
		`path.startsWith("db/")`:                               true,
		`principal.name.endsWith("@example.com")`:              true,
		`principal.kind == "ServiceAccount"`:                   false,
		`principal.id in ["u-1", "u-9"]`:                       true,
		`cidr("10.0.0.0/8").containsIP(request.ip)`:            true,
		`cidr("192.168.0.0/16").containsIP(request.ip)`:        false,
		`request.time.getHours() >= 8`:                         true,
		`request.time < timestamp("2026-01-01T00:00:00Z")`:     false,
		`request.time.getDayOfWeek() in [1, 2, 3, 4, 5]`:       true,
		`request.ip == "10.1.2.3" && principal.kind == "User"`: true,
	} {
		policies, err := NewPolicies([]Policy{anyone("p", rule(Allow, "**", "*", when))})
		if err != nil {
			t.Errorf("%s: %v", when, err)
			continue
		}
		want := Silent
		if met {
			want = Allowed
		}
		if got := policies.Decide(ada, "read", "db/a", daytime); got.Outcome != want {
			t.Errorf("%s: %s, want %s", when, got.Outcome, want)
		}
	}
}

// TestConditionsInDoubt checks that a condition that cannot be evaluated, or only at great cost, never grants access.
func TestConditionsInDoubt(t *testing.T) {
	list := "[" + strings.TrimSuffix(strings.Repeat("1,", 100), ",") + "]"
	for name, when := range map[string]string{
		"an error": `int(principal.id) > 0`,
		"no ip":    `cidr("10.0.0.0/8").containsIP(principal.name)`,
		"too much": list + `.all(a, ` + list + `.all(b, ` + list + `.all(c, ` + list + `.all(d, a + b + c + d > size(path) - 100))))`,
	} {
		t.Run(name, func(t *testing.T) {
			policies, err := NewPolicies([]Policy{anyone("allow", rule(Allow, "**", "*", when))})
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			if got := policies.Decide(ada, "read", "db/a", daytime); got.Outcome != Silent {
				t.Errorf("allow: %+v", got)
			}
			if took := time.Since(start); took > time.Second {
				t.Errorf("took %s", took)
			}
			policies, err = NewPolicies([]Policy{anyone("deny", rule(Deny, "**", "*", when))})
			if err != nil {
				t.Fatal(err)
			}
			if got := policies.Decide(ada, "read", "db/a", daytime); got.Outcome != Denied {
				t.Errorf("deny: %+v", got)
			}
		})
	}
}

func TestPoliciesNameTheField(t *testing.T) {
	good := rule(Allow, "db/*", "read", "")
	subject := []Subject{{KindUser, "ada@example.com"}}
	for field, p := range map[string]Policy{
		"subjects: ":                    {Rules: []Rule{good}},
		"subjects[0].kind: ":            {Subjects: []Subject{{"Robot", "x"}}, Rules: []Rule{good}},
		"subjects[0].name: ":            {Subjects: []Subject{{KindUser, ""}}, Rules: []Rule{good}},
		"rules: ":                       {Subjects: subject},
		"rules[1].effect: ":             {Subjects: subject, Rules: []Rule{good, {Paths: good.Paths, Verbs: good.Verbs, Effect: "Maybe"}}},
		"rules[0].paths: ":              {Subjects: subject, Rules: []Rule{{Verbs: good.Verbs, Effect: Allow}}},
		"rules[0].paths[1]: ":           {Subjects: subject, Rules: []Rule{{Paths: []string{"a", "a//b"}, Verbs: good.Verbs, Effect: Allow}}},
		"rules[0].verbs: ":              {Subjects: subject, Rules: []Rule{{Paths: good.Paths, Effect: Allow}}},
		"rules[0].verbs[0]: ":           {Subjects: subject, Rules: []Rule{rule(Allow, "a", "", "")}},
		"rules[0].when: 1:1":            {Subjects: subject, Rules: []Rule{rule(Allow, "a", "read", "nonsense")}},
		"rules[0].when: ":               {Subjects: subject, Rules: []Rule{rule(Allow, "a", "read", "principal.nam == 'x'")}},
		"rules[0].when: want bool, got": {Subjects: subject, Rules: []Rule{rule(Allow, "a", "read", "1 + 1")}},
	} {
		p.Name = "mine"
		_, err := NewPolicies([]Policy{p})
		if err == nil || !strings.Contains(err.Error(), `policy "mine": `+field) {
			t.Errorf("want %q in %v", field, err)
		}
	}
	_, err := NewPolicies([]Policy{anyone("long", rule(Allow, "a", "read", strings.Repeat("true && ", 1000)+"true"))})
	if err == nil {
		t.Error("a condition of 8,000 characters was accepted")
	}
}

func BenchmarkDecide(b *testing.B) {
	var list []Policy
	for range 50 {
		list = append(list, anyone("p", rule(Allow, "db/*", "write", ""), rule(Deny, "prod/**", "*", `!cidr("10.0.0.0/8").containsIP(request.ip)`)))
	}
	policies, err := NewPolicies(list)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		policies.Decide(ada, "read", "prod/db/password", daytime)
	}
}
