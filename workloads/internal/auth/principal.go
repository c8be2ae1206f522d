// SPDX-License-Identifier: Apache-2.0

// Package auth identifies callers, and authorizes them.
package auth

import "context"

// Role is the permission of a principal on a product in a namespace. Each includes those before it.
type Role string

// The roles, from least to most.
const (
	RoleNone   Role = ""
	RoleViewer Role = "viewer"
	RoleEditor Role = "editor"
	RoleAdmin  Role = "admin"
)

var rank = map[Role]int{RoleViewer: 1, RoleEditor: 2, RoleAdmin: 3}

// Includes reports whether a role allows all that another one does.
func (r Role) Includes(other Role) bool { return rank[r] >= rank[other] }

// Kind is the kind of a principal.
type Kind string

// The kinds of principals.
const (
	KindUser           Kind = "User"
	KindServiceAccount Kind = "ServiceAccount"
	KindClient         Kind = "Client"
)

// Grant is a role on a product in a namespace; "*" matches all.
type Grant struct {
	Product   string `json:"product"`
	Namespace string `json:"namespace"`
	Role      Role   `json:"role"`
}

// Principal is an authenticated caller.
type Principal struct {
	Kind Kind
	// ID is stable: a user's UUID, "namespace/name" of a ServiceAccount, a client's id.
	ID string
	// Name is for people and for policies: an email address, "namespace/name", a client's id.
	Name   string
	Grants []Grant
	// Session is the login that a user's token belongs to; empty for all others.
	Session string
}

// RoleOn returns the highest role of the grants on a product in a namespace.
func (p *Principal) RoleOn(product, namespace string) Role {
	best := RoleNone
	for _, g := range p.Grants {
		if (g.Product == "*" || g.Product == product) && (g.Namespace == "*" || g.Namespace == namespace) && g.Role.Includes(best) {
			best = g.Role
		}
	}
	return best
}

type principalKey struct{}

// With returns a context with the principal of its request.
func With(ctx context.Context, p *Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// From returns the principal of a request; nil: anonymous.
func From(ctx context.Context) *Principal {
	p, _ := ctx.Value(principalKey{}).(*Principal)
	return p
}

// Name returns the name of a request's principal; empty: anonymous.
func Name(ctx context.Context) string {
	if p := From(ctx); p != nil {
		return p.Name
	}
	return ""
}
