// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"context"
	"net/http"

	"github.com/itechsmart/operator/workloads/internal/api/problem"
)

// Require returns nil if the request's principal has the role, or a higher one, on the product in the namespace; 401 for
// an anonymous request, otherwise 403. "*" requires the role on every product or namespace.
func Require(ctx context.Context, product, namespace string, role Role) error {
	principal := From(ctx)
	if principal == nil {
		return Unauthenticated("a login is needed")
	}
	if rank[role] == 0 || !principal.RoleOn(product, namespace).Includes(role) {
		return problem.New(http.StatusForbidden, "forbidden", "this needs the role "+string(role))
	}
	return nil
}

// Unauthenticated returns a 401 that requests a bearer token.
func Unauthenticated(message string) error {
	e := problem.New(http.StatusUnauthorized, "unauthenticated", message)
	e.Headers = http.Header{"Www-Authenticate": {`Bearer`}}
	return e
}
