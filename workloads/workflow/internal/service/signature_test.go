// SPDX-License-Identifier: Apache-2.0

package service

import (
	"net/http"
	"testing"
	"time"
)

func TestSigned(t *testing.T) {
	now := time.Now()
	h := http.Header{}
	pairs := sign(hmacKey, "body", now)
	for i := 0; i < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	for name, c := range map[string]struct {
		body, key string
		at        time.Time
		want      bool
	}{
		"good": {"body", hmacKey, now, true}, "another body": {"bodY", hmacKey, now, false}, "another key": {"body", "x" + hmacKey, now, false},
		"just in time": {"body", hmacKey, now.Add(signatureWindow - time.Second), true}, "too late": {"body", hmacKey, now.Add(signatureWindow + time.Second), false},
		"a clock that is behind": {"body", hmacKey, now.Add(time.Second - signatureWindow), true}, "too early": {"body", hmacKey, now.Add(-signatureWindow - time.Second), false},
	} {
		if _, ok := signed(h, []byte(c.body), []byte(c.key), c.at); ok != c.want {
			t.Errorf("%s: %t", name, ok)
		}
	}
}
