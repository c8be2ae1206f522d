// SPDX-License-Identifier: Apache-2.0

// Package signingkeys is the life of the keys that sign a Platform's tokens, and the Secret that holds them.
package signingkeys

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/workload"
)

// DataKey is the key of the Secret that holds them.
const DataKey = "keys.json"

const (
	// keyMargin is how much longer than its tokens a former key is kept: for clocks that differ, and for a replica that
	// signed with it until the rollout ended.
	keyMargin = time.Hour
	// rsaBits of an RS256 key, as NIST SP 800-57 has it until 2030.
	rsaBits = 2048
)

// Key is a key in the Secret. Its life: published (neither Since nor Until), so that every replica verifies it
// before one signs with it; signing (Since); verifying only (Until).
type Key struct {
	ID        string     `json:"id"`
	Algorithm string     `json:"algorithm"`
	Secret    string     `json:"secret"`
	Since     *time.Time `json:"since,omitempty"`
	Until     *time.Time `json:"until,omitempty"`
}

// Policy is when keys change.
type Policy struct {
	Algorithm string
	Interval  time.Duration // zero: never
	Tokens    time.Duration // how long a token is valid
	// Published reports whether every replica of every service verifies the key of that id already.
	Published func(id string) bool
}

// Next returns one step in the life of the keys: the keys as they should be, whether they differ, and when the next step
// is due (zero: not by time).
func Next(keys []Key, policy Policy, now time.Time, generate func(algorithm string) (Key, error)) ([]Key, bool, time.Duration, error) {
	var signing, published *Key
	var former []Key
	changed := false
	for _, key := range keys {
		switch {
		case key.Until != nil && !now.Before(*key.Until):
			changed = true
		case key.Until != nil:
			former = append(former, key)
		case key.Since != nil:
			signing = &key
		case key.Algorithm == policy.Algorithm:
			published = &key
		default:
			changed = true // the algorithm was chosen anew before this one signed anything
		}
	}
	switch {
	case signing == nil:
		key, err := generate(policy.Algorithm)
		if err != nil {
			return nil, false, 0, err
		}
		key.Since, signing, changed = &now, &key, true
	case published != nil && policy.Published(published.ID):
		until := now.Add(policy.Tokens + keyMargin)
		signing.Until, published.Since = &until, &now
		former = append([]Key{*signing}, former...)
		signing, published, changed = published, nil, true
	case published == nil && (signing.Algorithm != policy.Algorithm || policy.Interval > 0 && now.Sub(*signing.Since) >= policy.Interval):
		key, err := generate(policy.Algorithm)
		if err != nil {
			return nil, false, 0, err
		}
		published, changed = &key, true
	}
	out := []Key{*signing}
	if published != nil {
		out = append(out, *published)
	}
	interval := policy.Interval
	if published != nil {
		interval = 0 // a rollout is awaited, not a time
	}
	return append(out, former...), changed, dueIn(*signing, former, interval, now), nil
}

// dueIn returns when time alone asks for the next step.
func dueIn(signing Key, former []Key, interval time.Duration, now time.Time) time.Duration {
	due := time.Duration(0)
	if interval > 0 {
		due = max(signing.Since.Add(interval).Sub(now), time.Second)
	}
	for _, key := range former {
		due = workload.Sooner(due, max(key.Until.Sub(now), time.Second))
	}
	return due
}

// Generate returns a new key.
func Generate(algorithm string) (Key, error) {
	key := Key{ID: strings.ToLower(rand.Text()[:16]), Algorithm: algorithm}
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

// Encode returns the content of the Secret that holds the keys.
func Encode(keys []Key) (map[string][]byte, error) {
	data, err := json.MarshalIndent(keys, "", "  ") //nolint:gosec // G117: it is written into a Secret, and nowhere else
	if err != nil {
		return nil, fmt.Errorf("write signing keys: %w", err)
	}
	return map[string][]byte{DataKey: data}, nil
}

// Decode reads the keys from their Secret.
func Decode(secret *corev1.Secret) ([]Key, error) {
	var keys []Key
	if err := json.Unmarshal(secret.Data[DataKey], &keys); err != nil || len(keys) == 0 {
		// The error would quote the keys.
		return nil, reconcile.Stall(common.ReasonInvalidSpec,
			"Secret %s: key %q is not readable; restore it, or delete the Secret: everybody then has to log in again", secret.Name, DataKey)
	}
	return keys, nil
}
