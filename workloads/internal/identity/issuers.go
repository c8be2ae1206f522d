// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/auth"
)

const (
	// issuerPause is the minimum time between two requests to an issuer: tokens of unknown keys must not cause endless
	// requests.
	issuerPause   = 5 * time.Second
	issuerTimeout = 5 * time.Second
	// maxIssuerAnswer limits an issuer's response, in bytes.
	maxIssuerAnswer = 1 << 20
)

// errRequestedJustNow means that a request to the issuer was sent a moment ago.
var errRequestedJustNow = errors.New("a request to the issuer was sent a moment ago")

// issuers are the other accepted issuers of tokens, by their iss.
type issuers map[string]*tokenIssuer

// tokenIssuer holds another issuer's keys, which it fetches on first use.
type tokenIssuer struct {
	settings  config.Issuer
	namespace string // of the grants
	client    *http.Client

	mu       sync.Mutex
	verifier *oidc.IDTokenVerifier // nil: not discovered yet
}

func newIssuers(settings []config.Issuer, namespace string, client *http.Client) (issuers, error) {
	all := issuers{}
	if client == nil {
		client = &http.Client{}
	}
	for i, s := range settings {
		field := fmt.Sprintf("auth.issuers[%d]", i)
		switch {
		case !strings.HasPrefix(s.URL, "https://"):
			return nil, fmt.Errorf("%s.url: does not start with https://", field)
		case all[s.URL] != nil:
			return nil, fmt.Errorf("%s.url: is duplicated", field)
		case s.Audience == "":
			return nil, fmt.Errorf("%s.audience: is empty", field)
		}
		for j, c := range s.Callers {
			if len(c.Claims) == 0 || !knownRole(auth.Role(c.Role)) {
				return nil, fmt.Errorf("%s.callers[%d]: has no claims, or a role that is not one of viewer, editor and admin", field, j)
			}
		}
		own := *client
		own.Timeout, own.Transport = issuerTimeout, &sparing{next: client.Transport}
		all[s.URL] = &tokenIssuer{settings: s, namespace: namespace, client: &own}
	}
	return all, nil
}

// find returns the issuer that a token names, if it is one of these.
func (all issuers) find(token string) *tokenIssuer {
	if len(all) == 0 {
		return nil
	}
	u, ok := parseUnverified(token)
	if !ok {
		return nil
	}
	return all[u.Issuer]
}

// authenticate verifies a token, and returns its caller. auth.ErrInvalidToken, auth.ErrUnavailable.
func (i *tokenIssuer) authenticate(ctx context.Context, token string) (*auth.Principal, error) {
	verifier, err := i.ready(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: discover the keys of %s: %w", auth.ErrUnavailable, i.settings.URL, err)
	}
	verified, err := verifier.Verify(ctx, token)
	// Only the error's text shows that the library could not fetch keys.
	if err != nil && strings.Contains(err.Error(), "fetching keys") {
		return nil, fmt.Errorf("%w: %w", auth.ErrUnavailable, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", auth.ErrInvalidToken, err)
	}
	var claims map[string]any
	if err := verified.Claims(&claims); err != nil {
		return nil, fmt.Errorf("%w: its claims cannot be read", auth.ErrInvalidToken)
	}
	for _, c := range i.settings.Callers {
		if fits(c.Claims, claims) {
			return &auth.Principal{Kind: auth.KindClient, ID: i.settings.URL + "#" + verified.Subject, Name: c.Name,
				Grants: []auth.Grant{{Product: "*", Namespace: i.namespace, Role: auth.Role(c.Role)}}}, nil
		}
	}
	return nil, fmt.Errorf("%w: its claims match no caller", auth.ErrInvalidToken)
}

// ready discovers the address of the issuer's keys, once.
func (i *tokenIssuer) ready(ctx context.Context) (*oidc.IDTokenVerifier, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.verifier != nil {
		return i.verifier, nil
	}
	// The keys are also fetched later, on behalf of other requests.
	provider, err := oidc.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), i.client), i.settings.URL)
	if err != nil {
		return nil, err
	}
	i.verifier = provider.Verifier(&oidc.Config{
		ClientID:             i.settings.Audience,
		SupportedSigningAlgs: []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA},
	})
	return i.verifier, nil
}

// fits reports whether claims have all the wanted values. A claim that is a list matches if one of its texts does.
func fits(wanted map[string]string, claims map[string]any) bool {
	for name, pattern := range wanted {
		found := false
		switch value := claims[name].(type) {
		case string:
			found = matches(pattern, value)
		case []any:
			for _, one := range value {
				text, ok := one.(string)
				found = found || ok && matches(pattern, text)
			}
		}
		if !found {
			return false
		}
	}
	return true
}

// matches compares a text with a pattern whose stars match any run of characters.
func matches(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	text, ok := strings.CutPrefix(text, parts[0])
	if !ok || len(parts) == 1 {
		return ok && text == ""
	}
	last := len(parts) - 1
	for _, part := range parts[1:last] {
		at := strings.Index(text, part)
		if at < 0 {
			return false
		}
		text = text[at+len(part):]
	}
	return strings.HasSuffix(text, parts[last])
}

// sparing limits the rate of requests and the size of their responses. Discovery and the keys are two addresses, each
// with its own pause.
type sparing struct {
	next http.RoundTripper
	mu   sync.Mutex
	last map[string]time.Time
}

// RoundTrip implements http.RoundTripper.
func (s *sparing) RoundTrip(r *http.Request) (*http.Response, error) {
	address, now := r.URL.String(), time.Now()
	s.mu.Lock()
	if s.last == nil {
		s.last = map[string]time.Time{}
	}
	soon := now.Before(s.last[address].Add(issuerPause))
	if !soon {
		s.last[address] = now
	}
	s.mu.Unlock()
	if soon {
		return nil, errRequestedJustNow
	}
	next := s.next
	if next == nil {
		next = http.DefaultTransport
	}
	response, err := next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	response.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(response.Body, maxIssuerAnswer), response.Body}
	return response, nil
}
