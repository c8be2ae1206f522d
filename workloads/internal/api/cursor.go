// SPDX-License-Identifier: Apache-2.0

package api

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/itechsmart/operator/workloads/internal/api/problem"
)

// Page is embedded in the input of a list.
type Page struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"50" doc:"maximum number of items"`
	Cursor string `query:"cursor" maxLength:"2048" doc:"next of the previous page; empty: the first page"`
}

// List is one page of a list.
type List[T any] struct {
	Items []T `json:"items" nullable:"false"`
	// Next is the cursor of the next page; empty on the last page.
	Next string `json:"next,omitempty" doc:"cursor of the next page; missing on the last page"`
}

const (
	maxCursor = 2048 // bytes of text
	macSize   = 16
)

// Cursors signs the end of a page, so that a cursor cannot be forged or used elsewhere. A client can read it: it must not
// contain a secret.
type Cursors struct{ key []byte }

// NewCursors derives the signing key from a key of the service, of at least 16 bytes.
func NewCursors(key []byte) *Cursors {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("api cursors"))
	return &Cursors{key: mac.Sum(nil)}
}

// Scope returns the name of what a cursor belongs to: an endpoint and the filters of a list, in order.
func Scope(endpoint string, filters ...any) string {
	data, err := json.Marshal(append([]any{endpoint}, filters...))
	if err != nil { // a filter that is not a JSON value is a bug of ours
		panic(fmt.Sprintf("api.Scope: %v", err))
	}
	return string(data)
}

// Encode returns a cursor of v, which must marshal to JSON of at most 1.4 KB.
func (c *Cursors) Encode(scope string, v any) string {
	payload, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("api.Cursors: %v", err))
	}
	return base64.RawURLEncoding.EncodeToString(append(c.mac(scope, payload), payload...))
}

// Decode reads a cursor of the same scope; an empty one does not change into. 400 for any other text.
func (c *Cursors) Decode(scope, text string, into any) error {
	if text == "" {
		return nil
	}
	if len(text) > maxCursor {
		return errCursor()
	}
	data, err := base64.RawURLEncoding.DecodeString(text)
	// One cursor has one text: the decoder ignores line ends and stray bits.
	if err != nil || len(data) <= macSize || base64.RawURLEncoding.EncodeToString(data) != text || !hmac.Equal(data[:macSize], c.mac(scope, data[macSize:])) {
		return errCursor()
	}
	if err := json.Unmarshal(data[macSize:], into); err != nil {
		return errCursor() // of an older release
	}
	return nil
}

func errCursor() error {
	return problem.New(http.StatusBadRequest, "invalid_cursor", "the request is malformed",
		Detail{Field: "query.cursor", Message: "must be a cursor of this list with these filters"})
}

func (c *Cursors) mac(scope string, payload []byte) []byte {
	mac := hmac.New(sha256.New, c.key)
	var length [8]byte
	binary.BigEndian.PutUint64(length[:], uint64(len(scope)))
	mac.Write(length[:])
	mac.Write([]byte(scope))
	mac.Write(payload)
	return mac.Sum(nil)[:macSize]
}
