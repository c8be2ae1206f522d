// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Limits of one policy.
const (
	maxSubjects = 256
	maxRules    = 64
	maxPaths    = 64
	maxVerbs    = 16
)

// Policy allows or denies its subjects verbs on paths.
type Policy struct {
	Name     string
	Subjects []Subject
	Rules    []Rule
}

// Subject selects principals. Kind is User, ServiceAccount, Client or "*"; Name is the principal's name or id,
// "namespace/*" for every ServiceAccount there, "*" for all of the kind.
type Subject struct {
	Kind Kind
	Name string
}

// Effect is what a rule does if it applies.
type Effect string

// The effects. Deny overrides Allow, whatever the order.
const (
	Allow Effect = "Allow"
	Deny  Effect = "Deny"
)

// Rule applies if one of the paths and one of the verbs match and When holds.
type Rule struct {
	// Paths are globs: "*" within a segment, "**" any number of segments; {{principal.id}} and {{principal.name}} are the caller's.
	Paths []string
	// Verbs are the product's: read, write, list, rotate, … or "*".
	Verbs  []string
	Effect Effect
	// When is CEL over principal.kind, principal.id, principal.name, path, verb, request.ip and request.time; empty: always.
	When string
}

// Request is the input of a condition.
type Request struct {
	IP   netip.Addr
	Time time.Time
}

// Outcome is the result of the policies.
type Outcome string

// The outcomes. Silent: no rule applies, so that roles decide.
const (
	Allowed Outcome = "Allowed"
	Denied  Outcome = "Denied"
	Silent  Outcome = "Silent"
)

// Decision is an outcome and its policy.
type Decision struct {
	Outcome Outcome
	Policy  string
}

// Policies are compiled: Decide only evaluates. They are safe for concurrent use.
type Policies struct{ compiled []compiledPolicy }

type compiledPolicy struct {
	name         string
	subjects     []Subject
	deny, allows []compiledRule
}

type compiledRule struct {
	paths []*glob
	verbs []string
	when  *condition
}

// NewPolicies compiles policies. The error names the policy and every invalid field, such as rules[0].paths[1].
func NewPolicies(policies []Policy) (*Policies, error) {
	out := &Policies{compiled: make([]compiledPolicy, 0, len(policies))}
	var errs []error
	for _, p := range policies {
		c, err := compilePolicy(p)
		if err != nil {
			errs = append(errs, fmt.Errorf("policy %q: %w", p.Name, err))
			continue
		}
		out.compiled = append(out.compiled, c)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return out, nil
}

func compilePolicy(p Policy) (compiledPolicy, error) {
	out := compiledPolicy{name: p.Name, subjects: slices.Clone(p.Subjects)}
	errs := []error{bounded("subjects", len(p.Subjects), maxSubjects), bounded("rules", len(p.Rules), maxRules)}
	for i, s := range p.Subjects {
		if !slices.Contains([]Kind{KindUser, KindServiceAccount, KindClient, "*"}, s.Kind) {
			errs = append(errs, fmt.Errorf("subjects[%d].kind: is not one of User, ServiceAccount, Client and *", i))
		}
		if s.Name == "" {
			errs = append(errs, fmt.Errorf("subjects[%d].name: is empty", i))
		}
	}
	for i, rule := range p.Rules {
		c, err := compileRule(rule)
		if err != nil {
			errs = append(errs, prefixed(fmt.Sprintf("rules[%d].", i), err))
			continue
		}
		switch rule.Effect {
		case Deny:
			out.deny = append(out.deny, c)
		case Allow:
			out.allows = append(out.allows, c)
		default:
			errs = append(errs, fmt.Errorf("rules[%d].effect: is neither Allow nor Deny", i))
		}
	}
	return out, errors.Join(errs...)
}

func bounded(field string, count, most int) error {
	switch {
	case count == 0:
		return fmt.Errorf("%s: is empty", field)
	case count > most:
		return fmt.Errorf("%s: has more than %d entries", field, most)
	}
	return nil
}

// prefixed prepends a field's path to each of the joined errors.
func prefixed(prefix string, err error) error {
	var many interface{ Unwrap() []error }
	if !errors.As(err, &many) {
		return fmt.Errorf("%s%w", prefix, err)
	}
	var out []error
	for _, one := range many.Unwrap() {
		out = append(out, fmt.Errorf("%s%w", prefix, one))
	}
	return errors.Join(out...)
}

func compileRule(rule Rule) (compiledRule, error) {
	out := compiledRule{verbs: slices.Clone(rule.Verbs)}
	errs := []error{bounded("paths", len(rule.Paths), maxPaths), bounded("verbs", len(rule.Verbs), maxVerbs)}
	for i, path := range rule.Paths {
		g, err := compileGlob(path)
		if err != nil {
			errs = append(errs, fmt.Errorf("paths[%d]: %w", i, err))
		}
		out.paths = append(out.paths, g)
	}
	for i, verb := range rule.Verbs {
		if verb == "" {
			errs = append(errs, fmt.Errorf("verbs[%d]: is empty", i))
		}
	}
	if strings.TrimSpace(rule.When) != "" {
		when, err := compileCondition(rule.When)
		if err != nil {
			errs = append(errs, fmt.Errorf("when: %w", err))
		}
		out.when = when
	}
	return out, errors.Join(errs...)
}

// Decide evaluates every policy: one Deny outweighs all Allows. A condition that cannot be evaluated, or costs too much,
// counts as met in a Deny and as not met in an Allow. An anonymous caller (nil) is the subject of no policy.
func (p *Policies) Decide(principal *Principal, verb, path string, request Request) Decision {
	if p == nil || principal == nil {
		return Decision{Outcome: Silent}
	}
	call := &call{principal: principal, verb: verb, path: path, request: request, segments: strings.Split(path, "/")}
	decision := Decision{Outcome: Silent}
	for i := range p.compiled {
		c := &p.compiled[i]
		if !c.about(principal) {
			continue
		}
		if slices.ContainsFunc(c.deny, func(r compiledRule) bool { return r.applies(call, true) }) {
			return Decision{Outcome: Denied, Policy: c.name}
		}
		if decision.Outcome == Silent && slices.ContainsFunc(c.allows, func(r compiledRule) bool { return r.applies(call, false) }) {
			decision = Decision{Outcome: Allowed, Policy: c.name}
		}
	}
	return decision
}

// call is one request for a decision.
type call struct {
	principal  *Principal
	verb, path string
	request    Request
	segments   []string
}

func (c *compiledPolicy) about(principal *Principal) bool {
	return slices.ContainsFunc(c.subjects, func(s Subject) bool {
		if s.Kind != "*" && s.Kind != principal.Kind {
			return false
		}
		if s.Name == "*" || s.Name == principal.ID {
			return true
		}
		if principal.Kind == KindUser { // names are email addresses
			return strings.EqualFold(s.Name, principal.Name)
		}
		namespace, all := strings.CutSuffix(s.Name, "/*")
		return s.Name == principal.Name ||
			all && principal.Kind == KindServiceAccount && strings.HasPrefix(principal.Name, namespace+"/")
	})
}

// applies reports whether a rule applies to the call; inDoubt is the result of a condition that fails.
func (r *compiledRule) applies(c *call, inDoubt bool) bool {
	if !slices.Contains(r.verbs, c.verb) && !slices.Contains(r.verbs, "*") {
		return false
	}
	if !slices.ContainsFunc(r.paths, func(g *glob) bool { return g.match(c.segments, c.principal) }) {
		return false
	}
	if r.when == nil {
		return true
	}
	met, err := r.when.eval(c)
	if err != nil {
		return inDoubt
	}
	return met
}
