// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"

	"github.com/itechsmart/operator/hack/images/clickhouse-server/internal/engine"
)

// Credentials is the one user of the server.
type Credentials struct{ User, Password string }

// authenticate checks the credentials of a request: from the X-ClickHouse headers, HTTP's basic authentication or the
// parameters, and from only one of these, as in ClickHouse.
func (c Credentials) authenticate(r *http.Request) *engine.Error {
	query := r.URL.Query()
	user, password := r.Header.Get("X-ClickHouse-User"), r.Header.Get("X-ClickHouse-Key")
	basicUser, basicPassword, basic := r.BasicAuth()
	ways := 0
	for _, used := range []bool{user != "" || password != "", basic, query.Has("user") || query.Has("password")} {
		if used {
			ways++
		}
	}
	if ways > 1 {
		return exception(codeAuthentication, "AUTHENTICATION_FAILED", "Invalid authentication: it is not allowed to use more than one way of passing the user and password")
	}
	switch {
	case basic:
		user, password = basicUser, basicPassword
	case query.Has("user") || query.Has("password"):
		user, password = query.Get("user"), query.Get("password")
	}
	if user == "" {
		user = "default"
	}
	// Both are always compared, so that the time does not reveal which of them is wrong.
	if same(user, c.User)&same(password, c.Password) != 1 {
		return exception(codeAuthentication, "AUTHENTICATION_FAILED", "%s: Authentication failed: password is incorrect, or there is no user with such name", user)
	}
	return nil
}

// same compares in a time that depends on neither text.
func same(a, b string) int {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:])
}
