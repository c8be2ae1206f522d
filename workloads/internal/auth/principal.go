// SPDX-License-Identifier: Apache-2.0

// Package auth tells who calls and what they may do.
package auth

import "context"

// Role is what a principal may do on a product in a namespace. Each includes those before it.
type Role string

// The roles, from least to most.
const (
	RoleNone   Role = ""
	RoleViewer Role = "viewer"
	RoleEditor Role = "editor"
	RoleAdmin  Role = "admin"
)

var rank = map[Role]int{RoleViewer: 1, RoleEditor: 2, RoleAdmin: 3}

// Includes tells whether a role allows what another one does.
func (r Role) Includes(other Role) bool { return rank[r] >= rank[other] }

// Kind tells what a principal is.
type Kind string

// The kinds of principals.
const (
	KindUser           Kind = "User"
	KindServiceAccount Kind = "ServiceAccount"
	KindClient         Kind = "Client"
)

// Grant is a role on a product in a namespace; "*" is every one.
type Grant struct {
	Product   string `json:"product"`
	Namespace string `json:"namespace"`
	Role      Role   `json:"role"`
}

// Principal is who calls.
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

// RoleOn is the highest role that the grants give on a product in a namespace.
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

// With gives a context the principal of its request.
func With(ctx context.Context, p *Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// From is the principal of a request; nil: anonymous.
func From(ctx context.Context) *Principal {
	p, _ := ctx.Value(principalKey{}).(*Principal)
	return p
}
