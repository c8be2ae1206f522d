// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"

	vaultv1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/internal/auth"
	"github.com/itechsmart/operator/workloads/internal/server"
)

// productName is Vault's name in grants.
const productName = "vault"

// access authorizes callers: AccessPolicies and the access lists of Secrets first, where one Deny outweighs all;
// otherwise the role decides.
type access struct {
	namespace string
	log       *slog.Logger
	rules     atomic.Pointer[rules]
}

// rules are the compiled rules of the resources.
type rules struct {
	policies []*auth.Policies
	byPath   map[string][]*auth.Policies
	// compiled maps a resource to its rules, so that a change of one resource compiles only that one.
	compiled map[ruleKey][]*auth.Policies
}

type ruleKey struct {
	uid        types.UID
	generation int64
}

// update compiles the changed resources of this Vault. A resource that does not compile (its controller reports it) keeps
// its denials, without their conditions, and allows nothing.
func (a *access) update(policies []vaultv1.AccessPolicy, secrets []vaultv1.Secret) {
	old := a.rules.Load()
	next := &rules{byPath: map[string][]*auth.Policies{}, compiled: map[ruleKey][]*auth.Policies{}}
	compile := func(key ruleKey, make func() []auth.Policy) []*auth.Policies {
		done, found := []*auth.Policies(nil), false
		if old != nil {
			done, found = old.compiled[key]
		}
		if !found {
			for _, p := range make() {
				done = append(done, a.compile(p))
			}
		}
		next.compiled[key] = done
		return done
	}
	for i := range policies {
		p := &policies[i]
		next.policies = append(next.policies, compile(ruleKey{p.UID, p.Generation}, func() []auth.Policy {
			return []auth.Policy{policyOf(p.Name, &p.Spec)}
		})...)
	}
	for i := range secrets {
		s := &secrets[i]
		if len(s.Spec.Access) > 0 {
			path := s.StorePath()
			next.byPath[path] = append(next.byPath[path], compile(ruleKey{s.UID, s.Generation}, func() []auth.Policy { return accessOf(s) })...)
		}
	}
	a.rules.Store(next)
}

func (a *access) compile(p auth.Policy) *auth.Policies {
	done, err := auth.NewPolicies([]auth.Policy{p})
	if err == nil {
		return done
	}
	a.log.Warn("a policy does not compile: only its denials apply, without their conditions", "policy", p.Name, "error", err)
	strict := auth.Policy{Name: p.Name, Subjects: p.Subjects}
	for _, rule := range p.Rules {
		if rule.Effect == auth.Deny {
			rule.When = ""
			strict.Rules = append(strict.Rules, rule)
		}
	}
	if done, err = auth.NewPolicies([]auth.Policy{strict}); err != nil {
		return nil // of no denials, or none that says what it denies
	}
	return done
}

// policyOf converts an AccessPolicy for package auth.
func policyOf(name string, spec *vaultv1.AccessPolicySpec) auth.Policy {
	p := auth.Policy{Name: name}
	for _, s := range spec.Subjects {
		p.Subjects = append(p.Subjects, auth.Subject{Kind: auth.Kind(s.Kind), Name: s.Name})
	}
	for _, r := range spec.Rules {
		rule := auth.Rule{Paths: r.Paths, Effect: auth.Effect(r.Effect), When: r.When}
		if rule.Effect == "" {
			rule.Effect = auth.Allow
		}
		for _, verb := range r.Verbs {
			rule.Verbs = append(rule.Verbs, string(verb))
		}
		p.Rules = append(p.Rules, rule)
	}
	return p
}

// accessOf converts a Secret's own list: each entry allows its subject some verbs on the one path.
func accessOf(s *vaultv1.Secret) []auth.Policy {
	var out []auth.Policy
	for _, entry := range s.Spec.Access {
		rule := auth.Rule{Paths: []string{s.StorePath()}, Effect: auth.Allow, When: entry.When}
		for _, verb := range entry.Verbs {
			rule.Verbs = append(rule.Verbs, string(verb))
		}
		out = append(out, auth.Policy{
			Name: "Secret " + s.Name, Rules: []auth.Rule{rule},
			Subjects: []auth.Subject{{Kind: auth.Kind(entry.Subject.Kind), Name: entry.Subject.Name}},
		})
	}
	return out
}

// decide consults only the rules.
func (a *access) decide(p *auth.Principal, verb vaultv1.Verb, path string, request auth.Request) auth.Decision {
	r := a.rules.Load()
	decision := auth.Decision{Outcome: auth.Silent}
	if r == nil {
		return decision
	}
	for _, list := range [][]*auth.Policies{r.policies, r.byPath[path]} {
		for _, c := range list {
			switch d := c.Decide(p, string(verb), path, request); {
			case d.Outcome == auth.Denied:
				return d
			case d.Outcome == auth.Allowed && decision.Outcome == auth.Silent:
				decision = d
			}
		}
	}
	return decision
}

// allow returns nil if the caller is allowed, else 401 or 403.
func (a *access) allow(ctx context.Context, verb vaultv1.Verb, path string) error {
	p := auth.From(ctx)
	if p == nil {
		return auth.Unauthenticated("a login is needed")
	}
	if err := a.ready(p); err != nil {
		return err
	}
	switch a.decide(p, verb, path, requestOf(ctx)).Outcome {
	case auth.Denied:
		return api.Forbidden("an access policy denies this")
	case auth.Allowed:
		return nil
	default:
		return auth.Require(ctx, productName, a.namespace, roleFor(verb))
	}
}

// ready refuses callers whom a policy might deny something while the policies have not been read yet.
func (a *access) ready(p *auth.Principal) error {
	if a.rules.Load() == nil && !p.RoleOn(productName, a.namespace).Includes(auth.RoleAdmin) {
		return api.Unavailable(5*time.Second, "the access policies are not known yet: the API server has not answered")
	}
	return nil
}

// mayList reports whether a path may be shown in a list.
func (a *access) mayList(p *auth.Principal, path string, request auth.Request) bool {
	switch a.decide(p, vaultv1.VerbList, path, request).Outcome {
	case auth.Denied:
		return false
	case auth.Allowed:
		return true
	default:
		return p.RoleOn(productName, a.namespace).Includes(roleFor(vaultv1.VerbList))
	}
}

// roleFor returns the least role that may do it if no policy applies. A viewer can list secrets, but not read values.
func roleFor(verb vaultv1.Verb) auth.Role {
	if verb == vaultv1.VerbList {
		return auth.RoleViewer
	}
	return auth.RoleEditor
}

func requestOf(ctx context.Context) auth.Request {
	return auth.Request{IP: server.ClientIP(ctx), Time: time.Now()}
}
