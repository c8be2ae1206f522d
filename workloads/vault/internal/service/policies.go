// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	vaultv1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/internal/auditlog"
	"github.com/itechsmart/operator/workloads/internal/auth"
	"github.com/itechsmart/operator/workloads/internal/kinds"
	wire "github.com/itechsmart/operator/workloads/vault/client"
)

func (s *Service) registerPolicies(rest huma.API) {
	huma.Register(rest, operation("list-policies", http.MethodGet, "/policies", "List access policies"), s.listPolicies)
	huma.Register(rest, api.Created(operation("create-policy", http.MethodPost, "/policies", "Create an access policy: an AccessPolicy resource")), s.createPolicy)
	huma.Register(rest, operation("get-policy", http.MethodGet, "/policies/{name}", "Get an access policy", http.StatusConflict), s.getPolicy)
	huma.Register(rest, operation("put-policy", http.MethodPut, "/policies/{name}", "Change an access policy", http.StatusConflict, http.StatusPreconditionFailed), s.putPolicy)
	huma.Register(rest, operation("delete-policy", http.MethodDelete, "/policies/{name}", "Delete an access policy", http.StatusConflict), s.deletePolicy)
}

// PolicyRules are the content of a policy.
type PolicyRules struct {
	Subjects []PolicySubject `json:"subjects" minItems:"1" maxItems:"64" nullable:"false"`
	Rules    []PolicyRule    `json:"rules" minItems:"1" maxItems:"64" nullable:"false"`
}

// PolicySubject is a subject of a policy.
type PolicySubject struct {
	Kind string `json:"kind" enum:"User,ServiceAccount,Client"`
	Name string `json:"name" minLength:"1" maxLength:"317" doc:"an email address, namespace/name, namespace/*, a client's id; * matches all of the kind"`
}

// PolicyRule allows or denies verbs on paths.
type PolicyRule struct {
	Paths  []string `json:"paths" minItems:"1" maxItems:"64" nullable:"false" doc:"* matches one segment, ** any number; {{principal.id}} and {{principal.name}} are the caller's"`
	Verbs  []string `json:"verbs" minItems:"1" maxItems:"8" nullable:"false" enum:"read,write,list,rotate,delete"`
	Effect string   `json:"effect,omitempty" enum:"Allow,Deny" default:"Allow"`
	When   string   `json:"when,omitempty" maxLength:"2048" doc:"CEL over principal, path, verb, request.ip and request.time"`
}

// Policy is an AccessPolicy resource.
type Policy struct {
	Name       string `json:"name"`
	Generation int64  `json:"generation"`
	Accepted   *bool  `json:"accepted,omitempty" doc:"whether the controller accepted its expressions; absent: not checked yet"`
	PolicyRules
}

func policyFrom(p *vaultv1.AccessPolicy) Policy {
	out := Policy{Name: p.Name, Generation: p.Generation}
	if c := meta.FindStatusCondition(p.Status.Conditions, vaultv1.ConditionAccepted); c != nil {
		accepted := c.Status == metav1.ConditionTrue
		out.Accepted = &accepted
	}
	for _, s := range p.Spec.Subjects {
		out.Subjects = append(out.Subjects, PolicySubject{string(s.Kind), s.Name})
	}
	for _, r := range p.Spec.Rules {
		rule := PolicyRule{Paths: r.Paths, Effect: string(r.Effect), When: r.When}
		for _, v := range r.Verbs {
			rule.Verbs = append(rule.Verbs, string(v))
		}
		out.Rules = append(out.Rules, rule)
	}
	return out
}

// spec checks the rules as the service will enforce them, and returns the resource's spec.
func (r *PolicyRules) spec(platform string) (vaultv1.AccessPolicySpec, error) {
	out := vaultv1.AccessPolicySpec{PlatformRef: &common.PlatformReference{Name: platform}}
	for _, s := range r.Subjects {
		out.Subjects = append(out.Subjects, vaultv1.Subject{Kind: vaultv1.SubjectKind(s.Kind), Name: s.Name})
	}
	for _, x := range r.Rules {
		rule := vaultv1.PolicyRule{Paths: x.Paths, Effect: vaultv1.Effect(x.Effect), When: x.When}
		for _, v := range x.Verbs {
			rule.Verbs = append(rule.Verbs, vaultv1.Verb(v))
		}
		out.Rules = append(out.Rules, rule)
	}
	if _, err := auth.NewPolicies([]auth.Policy{policyOf("", &out)}); err != nil {
		return out, invalidPolicy(err)
	}
	return out, nil
}

// invalidPolicy names the fields: the text is `policy "": rules[0].when: …`, a line each.
func invalidPolicy(err error) error {
	var details []any
	for line := range strings.Lines(err.Error()) {
		line = strings.TrimPrefix(strings.TrimSpace(line), `policy "": `)
		field, message, ok := strings.Cut(line, ": ")
		if !ok {
			field, message = "", line
		}
		details = append(details, api.Detail{Field: strings.TrimSuffix("body."+field, "."), Message: message})
	}
	return api.Error(http.StatusUnprocessableEntity, "invalid", "the policy is invalid", details...)
}

// writable returns 409 if there is no API server to write to: that is how this vault was set up, and not a failure.
func (s *Service) writable() error {
	if s.Resources.watch == nil {
		return api.Error(http.StatusConflict, "no_resources", "this vault runs without Kubernetes: there are no policies")
	}
	return nil
}

// fromServer converts an error of the API server into a response.
func fromServer(err error) error {
	switch {
	case err == nil:
		return nil
	case apierrors.IsNotFound(err):
		return api.NotFound("policy")
	case apierrors.IsAlreadyExists(err):
		return api.Conflict("a policy with this name already exists")
	case apierrors.IsConflict(err):
		return api.Precondition("the policy was changed meanwhile")
	case apierrors.IsInvalid(err):
		var details []any
		if status, ok := err.(apierrors.APIStatus); ok && status.Status().Details != nil { //nolint:errorlint // the client wraps nothing
			for _, c := range status.Status().Details.Causes {
				details = append(details, api.Detail{Field: "body." + strings.TrimPrefix(c.Field, "spec."), Message: "the API server refuses it"})
			}
		}
		return api.Because(api.Error(http.StatusUnprocessableEntity, "invalid", "the policy is invalid", details...), err)
	default:
		return api.Because(api.Unavailable(promptly, "the API server does not accept the change; nothing was changed"), err)
	}
}

func (s *Service) listPolicies(ctx context.Context, _ *struct{}) (*api.Reply[wire.Page[Policy]], error) {
	if err := s.Trail.Require(ctx, auth.RoleAdmin, "policy.list", "policy"); err != nil {
		return nil, err
	}
	page := wire.Page[Policy]{Items: []Policy{}}
	if s.Resources.watch == nil {
		return api.Body(page), nil
	}
	policies, err := kinds.List[*vaultv1.AccessPolicy](ctx, s.Resources.watch)
	if err != nil {
		return nil, err
	}
	for _, p := range policies {
		if s.Resources.ours(p.Spec.PlatformRef) {
			page.Items = append(page.Items, policyFrom(p))
		}
	}
	slices.SortFunc(page.Items, func(a, b Policy) int { return strings.Compare(a.Name, b.Name) })
	return api.Body(page), nil
}

// PolicyInput names the policy of a request.
type PolicyInput struct {
	Name string `path:"name" minLength:"1" maxLength:"253" pattern:"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"`
}

// policy returns one of this Vault's policies, live from the API server.
func (s *Service) policy(ctx context.Context, name string) (*vaultv1.AccessPolicy, error) {
	if err := s.writable(); err != nil {
		return nil, err
	}
	p, found, err := kinds.Get[*vaultv1.AccessPolicy](ctx, s.Resources.watch, name)
	if err != nil {
		return nil, err
	}
	if !found || !s.Resources.ours(p.Spec.PlatformRef) {
		return nil, api.NotFound("policy")
	}
	return p, nil
}

func (s *Service) getPolicy(ctx context.Context, in *PolicyInput) (*api.Tagged[Policy], error) {
	if err := s.Trail.Require(ctx, auth.RoleAdmin, "policy.get", "policy/"+in.Name); err != nil {
		return nil, err
	}
	p, err := s.policy(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	return api.Versioned(p.Generation, policyFrom(p)), nil
}

type createPolicyInput struct {
	Body struct {
		Name string `json:"name" minLength:"1" maxLength:"253" pattern:"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"`
		PolicyRules
	}
}

func (s *Service) createPolicy(ctx context.Context, in *createPolicyInput) (*api.Tagged[Policy], error) {
	name := in.Body.Name
	if err := s.Trail.Require(ctx, auth.RoleAdmin, "policy.create", "policy/"+name); err != nil {
		return nil, err
	}
	if err := s.writable(); err != nil {
		return nil, err
	}
	spec, err := in.Body.spec(s.Resources.platform)
	if err != nil {
		return nil, err
	}
	p := &vaultv1.AccessPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: name}, Spec: spec}
	err = s.Trail.Do(ctx, "policy.create", "policy/"+name, func() (auditlog.Result, error) {
		return auditlog.Result{}, fromServer(s.Resources.watch.Client().Create(ctx, p))
	})
	if err != nil {
		return nil, err
	}
	return api.Versioned(p.Generation, policyFrom(p)), nil
}

type putPolicyInput struct {
	PolicyInput
	IfMatch string `header:"If-Match"`
	Body    PolicyRules
}

func (s *Service) putPolicy(ctx context.Context, in *putPolicyInput) (*api.Tagged[Policy], error) {
	if err := s.Trail.Require(ctx, auth.RoleAdmin, "policy.update", "policy/"+in.Name); err != nil {
		return nil, err
	}
	match, err := api.IfMatch(in.IfMatch)
	if err != nil {
		return nil, err
	}
	p, err := s.policy(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	if match != nil && *match != api.AnyVersion && *match != p.Generation {
		return nil, api.Precondition("the policy was changed meanwhile")
	}
	spec, err := in.Body.spec(s.Resources.platform)
	if err != nil {
		return nil, err
	}
	p.Spec = spec
	err = s.Trail.Do(ctx, "policy.update", "policy/"+in.Name, func() (auditlog.Result, error) {
		return auditlog.Result{}, fromServer(s.Resources.watch.Client().Update(ctx, p))
	})
	if err != nil {
		return nil, err
	}
	return api.Versioned(p.Generation, policyFrom(p)), nil
}

func (s *Service) deletePolicy(ctx context.Context, in *PolicyInput) (*api.Empty, error) {
	if err := s.Trail.Require(ctx, auth.RoleAdmin, "policy.delete", "policy/"+in.Name); err != nil {
		return nil, err
	}
	p, err := s.policy(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	return nil, s.Trail.Do(ctx, "policy.delete", "policy/"+in.Name, func() (auditlog.Result, error) {
		return auditlog.Result{}, fromServer(s.Resources.watch.Client().Delete(ctx, p, client.Preconditions{UID: &p.UID}))
	})
}
