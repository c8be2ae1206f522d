// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/auth"
)

const (
	minHMACKey = 32   // bytes
	minRSAKey  = 2048 // bits
	leeway     = 5 * time.Second
	// tokenType is RFC 9068's: no other JWT of the same keys is accepted as an access token.
	tokenType = "at+jwt"
)

var (
	algorithms = []jose.SignatureAlgorithm{jose.HS256, jose.RS256}
	keyIDForm  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
)

// claims of an access token.
type claims struct {
	jwt.Claims
	Name     string       `json:"name"`
	Session  string       `json:"sid"`
	ClientID string       `json:"client_id,omitempty"`
	Grants   []auth.Grant `json:"grants"`
}

// keyring signs with its first key and verifies with all.
type keyring struct {
	issuer string
	signer jose.Signer
	keys   map[string]verifyKey
	public jose.JSONWebKeySet
}

type verifyKey struct {
	algorithm jose.SignatureAlgorithm
	key       any // []byte or *rsa.PublicKey
}

// newKeyring refuses weak, unknown and duplicate keys; its errors contain no key.
func newKeyring(issuer string, keys []config.Key) (*keyring, error) {
	if issuer == "" {
		return nil, errors.New("auth.issuer: is empty")
	}
	if len(keys) == 0 {
		return nil, errors.New("auth.keys: is empty")
	}
	ring := &keyring{issuer: issuer, keys: map[string]verifyKey{}, public: jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}}
	for i, k := range keys {
		field := fmt.Sprintf("auth.keys[%d]", i)
		if !keyIDForm.MatchString(k.ID) {
			return nil, fmt.Errorf("%s.id: has other characters than letters, digits, '.', '_' and '-', or over 64", field)
		}
		if _, twice := ring.keys[k.ID]; twice {
			return nil, fmt.Errorf("%s.id: %s is duplicated", field, k.ID)
		}
		if err := ring.add(k, i == 0); err != nil {
			return nil, fmt.Errorf("%s: %w", field, err)
		}
	}
	return ring, nil
}

func (r *keyring) add(k config.Key, signs bool) error {
	var private any
	switch algorithm := jose.SignatureAlgorithm(k.Algorithm); algorithm {
	case jose.HS256:
		secret, err := base64.StdEncoding.DecodeString(k.Secret)
		if err != nil || len(secret) < minHMACKey {
			return fmt.Errorf("secret: is not at least %d bytes in base64", minHMACKey)
		}
		private = secret
		r.keys[k.ID] = verifyKey{algorithm, secret}
	case jose.RS256:
		key, err := parseRSA(k.Secret)
		if err != nil {
			return fmt.Errorf("secret: %w", err)
		}
		private = key
		r.keys[k.ID] = verifyKey{algorithm, &key.PublicKey}
		r.public.Keys = append(r.public.Keys, jose.JSONWebKey{Key: &key.PublicKey, KeyID: k.ID, Algorithm: k.Algorithm, Use: "sig"})
	default:
		return errors.New("algorithm: is neither HS256 nor RS256")
	}
	if !signs {
		return nil
	}
	var err error
	r.signer, err = jose.NewSigner(
		jose.SigningKey{Algorithm: jose.SignatureAlgorithm(k.Algorithm), Key: private},
		(&jose.SignerOptions{}).WithType(tokenType).WithHeader("kid", k.ID))
	if err != nil {
		return errors.New("secret: cannot sign")
	}
	return nil
}

func parseRSA(text string) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("is not PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("is not a PKCS #8 key")
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok || key.N.BitLen() < minRSAKey {
		return nil, fmt.Errorf("is not an RSA key of at least %d bits", minRSAKey)
	}
	return key, nil
}

// sign returns an access token of claims, to which it adds issuer and audience.
func (r *keyring) sign(c claims) (string, error) {
	c.Issuer, c.Audience = r.issuer, jwt.Audience{r.issuer}
	token, err := jwt.Signed(r.signer).Claims(c).Serialize()
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return token, nil
}

// verify checks signature, algorithm, type, issuer, audience and times; auth.ErrInvalidToken.
func (r *keyring) verify(token string, now time.Time) (*claims, error) {
	invalid := func(why string) (*claims, error) { return nil, fmt.Errorf("%w: %s", auth.ErrInvalidToken, why) }
	parsed, err := jwt.ParseSigned(token, algorithms)
	if err != nil || len(parsed.Headers) != 1 {
		return invalid("it is not a JWT of an algorithm in use")
	}
	header := parsed.Headers[0]
	key, known := r.keys[header.KeyID]
	// A key verifies only its own algorithm: a public key is never used as a secret.
	if !known || string(key.algorithm) != header.Algorithm {
		return invalid("its key is unknown")
	}
	if kind, _ := header.ExtraHeaders[jose.HeaderType].(string); kind != tokenType {
		return invalid("it is not an access token")
	}
	var c claims
	if err := parsed.Claims(key.key, &c); err != nil {
		return invalid("its signature is wrong")
	}
	if c.Expiry == nil || c.IssuedAt == nil || c.Subject == "" || c.Session == "" {
		return invalid("a claim is missing")
	}
	expected := jwt.Expected{Issuer: r.issuer, AnyAudience: jwt.Audience{r.issuer}, Time: now}
	if err := c.ValidateWithLeeway(expected, leeway); err != nil {
		return invalid("its issuer, audience or time is wrong")
	}
	return &c, nil
}
