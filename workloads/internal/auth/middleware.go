// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/itechsmart/operator/workloads/internal/api/problem"
)

var (
	// ErrInvalidToken means that the token is invalid: forged, expired, revoked, or for another audience.
	ErrInvalidToken = errors.New("invalid token")
	// ErrUnavailable means that the token cannot be verified now. Retry later.
	ErrUnavailable = errors.New("authentication is unavailable")
)

// MaxToken limits a bearer token, in bytes.
const MaxToken = 16 << 10

// Authenticator verifies bearer tokens. Errors wrap ErrInvalidToken or ErrUnavailable.
type Authenticator interface {
	Authenticate(ctx context.Context, bearer string) (*Principal, error)
}

// Middleware puts the principal of a request into its context. A bad bearer token gets a 401; without one the request is
// anonymous. At the paths of anonymous the header is ignored: an old token does no harm there.
func Middleware(authenticator Authenticator, anonymous ...string) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if slices.Contains(anonymous, r.URL.Path) {
				next.ServeHTTP(w, r)
				return
			}
			bearer, given, err := Bearer(r)
			if err == nil && !given {
				next.ServeHTTP(w, r)
				return
			}
			var principal *Principal
			if err == nil {
				principal, err = authenticator.Authenticate(r.Context(), bearer)
			}
			if err != nil {
				problem.Write(w, r, answer(err))
				return
			}
			next.ServeHTTP(w, r.WithContext(With(r.Context(), principal)))
		})
	}
}

// SubprotocolPrefix precedes the token among the subprotocols of a WebSocket: a browser can set no other header there.
const SubprotocolPrefix = "bearer."

// Bearer returns the request's bearer token. Other schemes are ignored; a second Authorization header, an empty token or
// one over MaxToken is ErrInvalidToken. The upgrade to a WebSocket may have it among its subprotocols.
func Bearer(r *http.Request) (token string, given bool, err error) {
	headers := r.Header.Values("Authorization")
	if len(headers) == 0 {
		return subprotocol(r)
	}
	if len(headers) > 1 {
		return "", true, ErrInvalidToken
	}
	scheme, token, _ := strings.Cut(headers[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", false, nil
	}
	token = strings.TrimSpace(token)
	if token == "" || len(token) > MaxToken {
		return "", true, ErrInvalidToken
	}
	return token, true, nil
}

// subprotocol returns the token that an upgrade to a WebSocket has among its subprotocols.
func subprotocol(r *http.Request) (token string, given bool, err error) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return "", false, nil
	}
	for _, header := range r.Header.Values("Sec-WebSocket-Protocol") {
		for part := range strings.SplitSeq(header, ",") {
			found, ok := strings.CutPrefix(strings.TrimSpace(part), SubprotocolPrefix)
			switch {
			case !ok:
			case given || found == "" || len(found) > MaxToken:
				return "", true, ErrInvalidToken
			default:
				token, given = found, true
			}
		}
	}
	return token, given, nil
}

// answer never includes why a token is invalid: that would help to forge one.
func answer(err error) error {
	switch {
	case errors.Is(err, ErrInvalidToken):
		e := problem.New(http.StatusUnauthorized, "invalid_token", "the access token is invalid, expired or revoked")
		e.Headers = http.Header{"Www-Authenticate": {`Bearer error="invalid_token"`}}
		e.Cause = err
		return e
	case errors.Is(err, ErrUnavailable):
		e := problem.New(http.StatusServiceUnavailable, "unavailable", "the access token cannot be checked now; try again")
		e.Headers = http.Header{"Retry-After": {"5"}}
		e.Cause = err
		return e
	default:
		return err
	}
}
