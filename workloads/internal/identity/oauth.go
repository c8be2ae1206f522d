// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/uuid"
	"github.com/ory/fosite"
	"github.com/ory/fosite/handler/oauth2"
	"github.com/ory/fosite/handler/pkce"
	"golang.org/x/crypto/bcrypt"

	"github.com/itechsmart/operator/workloads/config"
)

const (
	// DefaultClient is the public client of requests to /token and /revoke that name none: people and scripts with a
	// password.
	DefaultClient = "itechsmart"

	codeTTL = time.Minute
)

// strategy generates the tokens: JWTs for access, random texts for all others.
type strategy struct {
	ring  *keyring
	users users
	now   func() time.Time
}

// random returns a token of 260 bits and its stored form.
func random() (token, signature string, err error) {
	token = rand.Text() + rand.Text()
	return token, hashed(token), nil
}

func hashed(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// AccessTokenSignature returns the id of the token's session; empty if it is not a token of ours.
func (s *strategy) AccessTokenSignature(_ context.Context, token string) string {
	c, err := s.ring.verify(token, s.now())
	if err != nil {
		return ""
	}
	return c.Session
}

// GenerateAccessToken signs the user's identity and current grants.
func (s *strategy) GenerateAccessToken(ctx context.Context, r fosite.Requester) (token, signature string, err error) {
	user, err := s.users.get(ctx, r.GetSession().GetSubject())
	if err != nil {
		return "", "", fmt.Errorf("read the user: %w", err)
	}
	now := s.now()
	token, err = s.ring.sign(claims{
		Claims: jwt.Claims{
			Subject: user.ID.String(), ID: uuid.NewString(),
			IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(r.GetSession().GetExpiresAt(fosite.AccessToken)),
		},
		Name: user.Email, Session: r.GetID(), ClientID: r.GetClient().GetID(), Grants: user.Grants,
	})
	return token, r.GetID(), err
}

// ValidateAccessToken implements oauth2.AccessTokenStrategy.
func (s *strategy) ValidateAccessToken(_ context.Context, _ fosite.Requester, token string) error {
	_, err := s.ring.verify(token, s.now())
	return err
}

// RefreshTokenSignature implements oauth2.RefreshTokenStrategy.
func (s *strategy) RefreshTokenSignature(_ context.Context, token string) string {
	return hashed(token)
}

// GenerateRefreshToken implements oauth2.RefreshTokenStrategy.
func (s *strategy) GenerateRefreshToken(context.Context, fosite.Requester) (string, string, error) {
	return random()
}

// ValidateRefreshToken has nothing to add: the store finds a token by its hash, and no expired one.
func (s *strategy) ValidateRefreshToken(context.Context, fosite.Requester, string) error { return nil }

// AuthorizeCodeSignature implements oauth2.AuthorizeCodeStrategy.
func (s *strategy) AuthorizeCodeSignature(_ context.Context, token string) string {
	return hashed(token)
}

// GenerateAuthorizeCode implements oauth2.AuthorizeCodeStrategy.
func (s *strategy) GenerateAuthorizeCode(context.Context, fosite.Requester) (string, string, error) {
	return random()
}

// ValidateAuthorizeCode is like ValidateRefreshToken.
func (s *strategy) ValidateAuthorizeCode(context.Context, fosite.Requester, string) error { return nil }

// secrets checks clients' secrets in the same bounded pool as passwords.
type secrets struct{ hasher *hasher }

// Compare implements fosite.Hasher.
func (s secrets) Compare(ctx context.Context, hash, data []byte) error {
	same, err := s.hasher.matches(ctx, string(hash), string(data))
	if err == nil && !same {
		err = errors.New("the secret is wrong")
	}
	return err
}

// Hash implements fosite.Hasher.
func (s secrets) Hash(ctx context.Context, data []byte) ([]byte, error) {
	hash, err := s.hasher.hash(ctx, string(data))
	return []byte(hash), err
}

// newProvider builds fosite with exactly the grants that are offered. PKCE is required for every client.
func newProvider(store *oauthStore, tokens *strategy, hasher *hasher, access, refresh time.Duration) fosite.OAuth2Provider {
	settings := &fosite.Config{
		AccessTokenLifespan: access, RefreshTokenLifespan: refresh, AuthorizeCodeLifespan: codeTTL,
		RefreshTokenScopes: []string{}, // every login returns a refresh token
		EnforcePKCE:        true, EnforcePKCEForPublicClients: true,
		ScopeStrategy: fosite.ExactScopeStrategy, AudienceMatchingStrategy: fosite.ExactAudienceMatchingStrategy,
		ClientSecretsHasher: secrets{hasher},
	}
	code := &oauth2.AuthorizeExplicitGrantHandler{
		AccessTokenStrategy: tokens, RefreshTokenStrategy: tokens, AuthorizeCodeStrategy: tokens,
		CoreStorage: store, TokenRevocationStorage: store, Config: settings,
	}
	// After the code's handler: it adds to what that one stored.
	proof := &pkce.Handler{AuthorizeCodeStrategy: tokens, Storage: store, Config: settings}
	settings.AuthorizeEndpointHandlers.Append(code)
	settings.AuthorizeEndpointHandlers.Append(proof)
	settings.TokenEndpointHandlers.Append(code)
	settings.TokenEndpointHandlers.Append(proof)
	settings.TokenEndpointHandlers.Append(&oauth2.ResourceOwnerPasswordCredentialsGrantHandler{ //nolint:staticcheck // SA1019 discourages the grant: ours is for first-party clients alone
		HandleHelper: &oauth2.HandleHelper{AccessTokenStrategy: tokens, AccessTokenStorage: store, Config: settings},
		ResourceOwnerPasswordCredentialsGrantStorage: store, RefreshTokenStrategy: tokens, Config: settings,
	})
	settings.TokenEndpointHandlers.Append(&oauth2.RefreshTokenGrantHandler{
		AccessTokenStrategy: tokens, RefreshTokenStrategy: tokens, TokenRevocationStorage: store, Config: settings,
	})
	settings.RevocationHandlers.Append(&oauth2.TokenRevocationHandler{
		TokenRevocationStorage: store, RefreshTokenStrategy: tokens, AccessTokenStrategy: tokens,
	})
	return fosite.NewOAuth2Provider(store, settings)
}

// newClients returns the default client, which uses passwords, and those of the settings, which use codes.
func newClients(list []config.Client) (map[string]*fosite.DefaultClient, error) {
	clients := map[string]*fosite.DefaultClient{
		DefaultClient: {ID: DefaultClient, Public: true, GrantTypes: fosite.Arguments{"password", "refresh_token"}},
	}
	for i, c := range list {
		field := fmt.Sprintf("auth.clients[%d]", i)
		if c.ID == "" || clients[c.ID] != nil {
			return nil, fmt.Errorf("%s.id: is empty or duplicated", field)
		}
		if len(c.RedirectURIs) == 0 {
			return nil, fmt.Errorf("%s.redirectURIs: is empty", field)
		}
		if c.SecretHash != "" {
			if cost, err := bcrypt.Cost([]byte(c.SecretHash)); err != nil || cost > 14 {
				return nil, fmt.Errorf("%s.secretHash: is not a bcrypt hash of a cost up to 14", field)
			}
		}
		clients[c.ID] = &fosite.DefaultClient{
			ID: c.ID, Secret: []byte(c.SecretHash), Public: c.SecretHash == "", RedirectURIs: c.RedirectURIs,
			ResponseTypes: fosite.Arguments{"code"}, GrantTypes: fosite.Arguments{"authorization_code", "refresh_token"},
		}
	}
	return clients, nil
}
