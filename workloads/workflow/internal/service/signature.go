// SPDX-License-Identifier: Apache-2.0

package service

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	headerTimestamp = "X-Timestamp"
	headerSignature = "X-Signature-256"
	// signatureWindow is the tolerance for clock skew and for the duration of the call.
	signatureWindow = 5 * time.Minute
)

func newDecoy() []byte {
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // never fails
	return key
}

// signed reports whether a body was signed with a key, and returns the correct signature. It does the same work for valid and
// invalid signatures.
func signed(h http.Header, body, key []byte, now time.Time) (signature []byte, ok bool) {
	stamp := h.Get(headerTimestamp)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(stamp))
	mac.Write([]byte{'.'})
	mac.Write(body)
	want := mac.Sum(nil)
	text, prefixed := strings.CutPrefix(h.Get(headerSignature), "sha256=")
	given, err := hex.DecodeString(text)
	same := hmac.Equal(given, want)
	seconds, errStamp := strconv.ParseInt(stamp, 10, 64)
	age := now.Sub(time.Unix(seconds, 0))
	inTime := age <= signatureWindow && age >= -signatureWindow
	return want, same && prefixed && err == nil && errStamp == nil && inTime
}
