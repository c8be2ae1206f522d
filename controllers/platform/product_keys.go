// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/workloads/config"
)

const (
	// keyMargin is how much longer than its tokens a former key stays: for clocks that differ, and for a replica that
	// signed with it until the rollout ended.
	keyMargin = time.Hour
	// rsaBits of an RS256 key, as NIST SP 800-57 has it until 2030.
	rsaBits = 2048
)

// signingKey is a key in the Secret. Its life: published (neither Since nor Until), so that every replica verifies it
// before one signs with it; signing (Since); verifying only (Until).
type signingKey struct {
	ID        string     `json:"id"`
	Algorithm string     `json:"algorithm"`
	Secret    string     `json:"secret"`
	Since     *time.Time `json:"since,omitempty"`
	Until     *time.Time `json:"until,omitempty"`
}

// keyPolicy is when keys change.
type keyPolicy struct {
	algorithm string
	interval  time.Duration // zero: never
	tokens    time.Duration // how long a token is valid
	// published are the ids of the keys that every replica of every product verifies already.
	published func(id string) bool
}

// nextKeys is one step in the life of the keys: the keys as they should be, whether they differ, and when the next step
// is due (zero: not by time).
func nextKeys(keys []signingKey, policy keyPolicy, now time.Time, generate func(algorithm string) (signingKey, error)) ([]signingKey, bool, time.Duration, error) {
	var signing, published *signingKey
	var former []signingKey
	changed := false
	for _, key := range keys {
		switch {
		case key.Until != nil && !now.Before(*key.Until):
			changed = true
		case key.Until != nil:
			former = append(former, key)
		case key.Since != nil:
			signing = &key
		case key.Algorithm == policy.algorithm:
			published = &key
		default:
			changed = true // the algorithm was chosen anew before this one signed anything
		}
	}
	switch {
	case signing == nil:
		key, err := generate(policy.algorithm)
		if err != nil {
			return nil, false, 0, err
		}
		key.Since, signing, changed = &now, &key, true
	case published != nil && policy.published(published.ID):
		until := now.Add(policy.tokens + keyMargin)
		signing.Until, published.Since = &until, &now
		former = append([]signingKey{*signing}, former...)
		signing, published, changed = published, nil, true
	case published == nil && (signing.Algorithm != policy.algorithm || policy.interval > 0 && now.Sub(*signing.Since) >= policy.interval):
		key, err := generate(policy.algorithm)
		if err != nil {
			return nil, false, 0, err
		}
		published, changed = &key, true
	}
	out := []signingKey{*signing}
	if published != nil {
		out = append(out, *published)
	}
	interval := policy.interval
	if published != nil {
		interval = 0 // a rollout is awaited, not a time
	}
	return append(out, former...), changed, dueIn(*signing, former, interval, now), nil
}

// dueIn is when time alone asks for the next step.
func dueIn(signing signingKey, former []signingKey, interval time.Duration, now time.Time) time.Duration {
	due := time.Duration(0)
	if interval > 0 {
		due = max(signing.Since.Add(interval).Sub(now), time.Second)
	}
	for _, key := range former {
		due = sooner(due, max(key.Until.Sub(now), time.Second))
	}
	return due
}

// generateKey makes a key that nobody has.
func generateKey(algorithm string) (signingKey, error) {
	key := signingKey{ID: strings.ToLower(rand.Text()[:16]), Algorithm: algorithm}
	if algorithm == string(v1alpha1.HS256) {
		random := make([]byte, 32)
		_, _ = rand.Read(random) // never fails: it ends the program instead
		key.Secret = base64.StdEncoding.EncodeToString(random)
		return key, nil
	}
	private, err := rsa.GenerateKey(rand.Reader, rsaBits)
	if err != nil {
		return key, fmt.Errorf("make a signing key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return key, fmt.Errorf("make a signing key: %w", err)
	}
	key.Secret = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	return key, nil
}

// signingKeys are the Platform's, made when there are none.
func (p *pass) signingKeys(ctx context.Context) ([]config.Key, error) {
	if p.keys == nil {
		secret, err := p.keep(ctx, kept{
			name: signingKeysName(p.platform.Name), component: componentIdentity, secretType: corev1.SecretTypeOpaque, keys: []string{keyKeys},
			make: func() (map[string][]byte, error) {
				keys, _, _, err := nextKeys(nil, p.keyPolicy(), time.Now().UTC(), generateKey)
				if err != nil {
					return nil, err
				}
				return encodeKeys(keys)
			},
		})
		if err != nil {
			return nil, err
		}
		p.keys = secret
	}
	keys, err := decodeKeys(p.keys)
	if err != nil {
		return nil, err
	}
	out := make([]config.Key, 0, len(keys))
	for _, key := range keys {
		out = append(out, config.Key{ID: key.ID, Algorithm: key.Algorithm, Secret: key.Secret})
	}
	return out, nil
}

func encodeKeys(keys []signingKey) (map[string][]byte, error) {
	data, err := json.MarshalIndent(keys, "", "  ") //nolint:gosec // G117: it is written into a Secret, and nowhere else
	if err != nil {
		return nil, fmt.Errorf("write signing keys: %w", err)
	}
	return map[string][]byte{keyKeys: data}, nil
}

func decodeKeys(secret *corev1.Secret) ([]signingKey, error) {
	var keys []signingKey
	if err := json.Unmarshal(secret.Data[keyKeys], &keys); err != nil || len(keys) == 0 {
		// The error would quote the keys.
		return nil, reconcile.Stall(common.ReasonInvalidSpec,
			"Secret %s: key %q is not readable; restore it, or delete the Secret: everybody then has to log in again", secret.Name, keyKeys)
	}
	return keys, nil
}

func (p *pass) keyPolicy() keyPolicy {
	auth := &p.platform.Spec.Auth
	policy := keyPolicy{algorithm: string(auth.Algorithm), tokens: auth.AccessTokenTTL.Duration, published: p.published}
	if policy.algorithm == "" { // a caller that went around the API server's defaults
		policy.algorithm = string(v1alpha1.HS256)
	}
	if auth.KeyRotation.Interval != nil {
		policy.interval = auth.KeyRotation.Interval.Duration
	}
	return policy
}

// published tells whether every replica of every product verifies a key.
func (p *pass) published(id string) bool {
	for _, r := range p.runs {
		if !r.row.Ready || r.config == nil || !slices.ContainsFunc(r.config.Auth.Keys, func(k config.Key) bool { return k.ID == id }) {
			return false
		}
	}
	return len(p.runs) > 0
}

// publishKeys takes the next step of the keys' life when the products have come to where the last one led. The write wakes
// the Platform, and the next pass renders what it says.
func (p *pass) publishKeys(ctx context.Context) error {
	if p.keys == nil {
		return nil
	}
	keys, err := decodeKeys(p.keys)
	if err != nil {
		return nil //nolint:nilerr // the products' rows say so
	}
	next, changed, due, err := nextKeys(keys, p.keyPolicy(), time.Now().UTC(), generateKey)
	if err != nil {
		return err
	}
	p.again = sooner(p.again, due)
	if !changed {
		return nil
	}
	data, err := encodeKeys(next)
	if err != nil {
		return err
	}
	changedSecret := p.keys.DeepCopy()
	changedSecret.Data = data
	// The lock keeps two managers, or a stale cache, from each making a key of their own.
	if err := p.client.Patch(ctx, changedSecret, client.MergeFromWithOptions(p.keys, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("change Secret %s: %w", p.keys.Name, err)
	}
	return nil
}
