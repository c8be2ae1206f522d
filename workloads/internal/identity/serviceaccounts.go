// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/auth"
)

// TokenReviewer verifies a ServiceAccount's token by the Kubernetes API. Errors wrap auth.ErrInvalidToken; any other
// means that the API did not respond.
type TokenReviewer interface {
	Review(ctx context.Context, token, audience string) (namespace, name string, err error)
}

const (
	goodFor = 60 * time.Second
	badFor  = 10 * time.Second
	// staleFor is how long a positive answer remains valid while the API server does not respond, because a service must
	// serve without it.
	staleFor = 15 * time.Minute
	askAgain = 5 * time.Second

	maxReviews    = 4096 // answers kept
	reviewsAtOnce = 8
	reviewTimeout = 3 * time.Second
	accountPrefix = "system:serviceaccount:"
)

// accounts authenticates ServiceAccounts.
type accounts struct {
	reviewer  TokenReviewer
	issuer    string // the audience of the tokens
	namespace string // of the grants
	roles     []config.ServiceAccount
	now       func() time.Time
	slots     chan struct{}

	mu      sync.Mutex
	answers map[[sha256.Size]byte]*review
}

// review is one answer, or a request in progress.
type review struct {
	done      chan struct{} // closed once the other fields are set
	principal *auth.Principal
	err       error
	confirmed time.Time // when the API server confirmed it
	until     time.Time // how long the answer is valid
	expires   time.Time // the token's own
}

func newAccounts(reviewer TokenReviewer, issuer, namespace string, roles []config.ServiceAccount, now func() time.Time) (*accounts, error) {
	for i, r := range roles {
		ns, name, found := strings.Cut(r.Name, "/")
		if !found || ns == "" || name == "" || ns == "*" || strings.Contains(name, "/") {
			return nil, fmt.Errorf("auth.serviceAccounts[%d].name: is neither namespace/name nor namespace/*", i)
		}
		if !knownRole(auth.Role(r.Role)) {
			return nil, fmt.Errorf("auth.serviceAccounts[%d].role: is not one of viewer, editor and admin", i)
		}
	}
	return &accounts{reviewer: reviewer, issuer: issuer, namespace: namespace, roles: roles, now: now,
		slots: make(chan struct{}, reviewsAtOnce), answers: map[[sha256.Size]byte]*review{}}, nil
}

func knownRole(r auth.Role) bool {
	return slices.Contains([]auth.Role{auth.RoleViewer, auth.RoleEditor, auth.RoleAdmin}, r)
}

// role returns the highest role of the settings.
func (a *accounts) role(namespace, name string) auth.Role {
	best := auth.RoleNone
	for _, r := range a.roles {
		if (r.Name == namespace+"/"+name || r.Name == namespace+"/*") && auth.Role(r.Role).Includes(best) {
			best = auth.Role(r.Role)
		}
	}
	return best
}

// unverified holds the unverified claims of a token. They only select the authenticator, and keep hopeless tokens from
// the API server.
type unverified struct {
	Issuer   string          `json:"iss"`
	Subject  string          `json:"sub"`
	Audience json.RawMessage `json:"aud"`
	Expiry   float64         `json:"exp"`
}

func parseUnverified(token string) (u unverified, ok bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return u, false
	}
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	return u, err == nil && json.Unmarshal(body, &u) == nil
}

func (a *accounts) claimed(token string) (unverified, bool) {
	u, ok := parseUnverified(token)
	if !ok {
		return u, false
	}
	var many []string
	var one string
	if json.Unmarshal(u.Audience, &many) != nil && json.Unmarshal(u.Audience, &one) == nil {
		many = []string{one}
	}
	namespace, name, found := strings.Cut(strings.TrimPrefix(u.Subject, accountPrefix), ":")
	ours := found && strings.HasPrefix(u.Subject, accountPrefix) && slices.Contains(many, a.issuer)
	return u, ours && a.role(namespace, name) != auth.RoleNone && u.Expiry > float64(a.now().Unix())
}

// authenticate asks the API server, or uses a cached answer. auth.ErrInvalidToken, auth.ErrUnavailable.
func (a *accounts) authenticate(ctx context.Context, token string) (*auth.Principal, error) {
	claimed, plausible := a.claimed(token)
	if !plausible {
		return nil, fmt.Errorf("%w: its account may not call", auth.ErrInvalidToken)
	}
	key := sha256.Sum256([]byte(token))
	now := a.now()
	a.mu.Lock()
	r, known := a.answers[key]
	var last *review
	if known && r.answered() && !now.Before(r.until) {
		last, known = r, false
	}
	if !known {
		a.makeRoom(now)
		r = &review{done: make(chan struct{}), expires: time.Unix(int64(claimed.Expiry), 0)}
		a.answers[key] = r
		go a.ask(context.WithoutCancel(ctx), token, r, last)
	}
	a.mu.Unlock()
	select {
	case <-r.done:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", auth.ErrUnavailable, ctx.Err())
	}
	if r.err == nil && !now.Before(r.expires) {
		return nil, fmt.Errorf("%w: it expired", auth.ErrInvalidToken)
	}
	return r.principal, r.err
}

func (r *review) answered() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// ask fills in r, once for all waiting callers.
func (a *accounts) ask(ctx context.Context, token string, r, last *review) {
	defer close(r.done)
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	namespace, name, err := "", "", error(nil)
	select {
	case a.slots <- struct{}{}:
		namespace, name, err = a.reviewer.Review(ctx, token, a.issuer)
		<-a.slots
	case <-ctx.Done():
		err = ctx.Err()
	}
	now := a.now()
	role := a.role(namespace, name)
	switch {
	case err == nil && role != auth.RoleNone:
		id := namespace + "/" + name
		r.principal = &auth.Principal{Kind: auth.KindServiceAccount, ID: id, Name: id,
			Grants: []auth.Grant{{Product: "*", Namespace: a.namespace, Role: role}}}
		r.confirmed, r.until = now, now.Add(goodFor)
	case err == nil:
		r.err, r.until = fmt.Errorf("%w: %s/%s may not call", auth.ErrInvalidToken, namespace, name), now.Add(badFor)
	case errors.Is(err, auth.ErrInvalidToken):
		r.err, r.until = err, now.Add(badFor)
	case last != nil && last.err == nil && now.Before(last.confirmed.Add(staleFor)):
		// The API server is unavailable: its last answer remains valid for now.
		r.principal, r.confirmed, r.until = last.principal, last.confirmed, now.Add(askAgain)
	default:
		r.err, r.until = fmt.Errorf("%w: review the token: %w", auth.ErrUnavailable, err), now.Add(time.Second)
	}
}

// makeRoom drops expired answers, and if that is not enough, any others that are not in progress.
func (a *accounts) makeRoom(now time.Time) {
	if len(a.answers) < maxReviews {
		return
	}
	for key, r := range a.answers {
		if r.answered() && !now.Before(r.until) {
			delete(a.answers, key)
		}
	}
	for key, r := range a.answers {
		if len(a.answers) < maxReviews {
			return
		}
		if r.answered() {
			delete(a.answers, key)
		}
	}
}
