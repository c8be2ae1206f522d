// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// answer is a stored response.
type answer struct {
	Status    int         `json:"status"`
	Header    http.Header `json:"header"`
	Body      []byte      `json:"body"`
	Truncated bool        `json:"truncated,omitempty"`
}

// keptHeaders describe the response itself rather than one request.
var keptHeaders = []string{"Content-Type", "Etag", "Location", "Content-Language"}

// recorder holds a response back until it is stored.
type recorder struct {
	http.ResponseWriter
	code int
	body bytes.Buffer
	sent bool // it grew too large, and is being sent
}

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(status int) {
	if r.code == 0 && status >= http.StatusOK {
		r.code = status
	}
}

// Write implements http.ResponseWriter.
func (r *recorder) Write(data []byte) (int, error) {
	r.code = cmp.Or(r.code, http.StatusOK)
	if r.sent {
		return r.ResponseWriter.Write(data)
	}
	if r.body.Len()+len(data) > maxAnswer {
		r.flush()
		r.sent = true
		return r.ResponseWriter.Write(data)
	}
	return r.body.Write(data)
}

func (r *recorder) status() int { return cmp.Or(r.code, http.StatusOK) }

func (r *recorder) answer() answer {
	a := answer{Status: r.status(), Header: http.Header{}, Truncated: r.sent}
	if !r.sent {
		a.Body = r.body.Bytes()
	}
	for _, name := range keptHeaders {
		if values := r.Header()[name]; len(values) > 0 {
			a.Header[name] = values
		}
	}
	return a
}

// flush sends what was delayed.
func (r *recorder) flush() {
	if r.sent {
		return
	}
	r.ResponseWriter.WriteHeader(r.status())
	_, _ = r.ResponseWriter.Write(r.body.Bytes()) //nolint:gosec // what the handler wrote, with its content type and nosniff
}

// sealer encrypts stored responses, which may hold secrets.
type sealer struct {
	macKey []byte
	aead   cipher.AEAD
}

func newSealer(key []byte) (*sealer, error) {
	if len(key) < 16 {
		return nil, errors.New("idempotency: the key must have at least 16 bytes")
	}
	block, err := aes.NewCipher(macOf(key, "api idempotency encryption"))
	if err != nil {
		return nil, fmt.Errorf("idempotency: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("idempotency: %w", err)
	}
	return &sealer{macKey: macOf(key, "api idempotency names"), aead: aead}, nil
}

func (s *sealer) mac(purpose string, parts ...[]byte) []byte {
	return macOf(s.macKey, purpose, parts...)
}

func (s *sealer) seal(id []byte, a answer) ([]byte, error) {
	plain, err := json.Marshal(a)
	if err != nil {
		return nil, fmt.Errorf("marshal the response: %w", err)
	}
	return s.aead.Seal(nil, nil, plain, id), nil //nolint:gosec // this cipher makes the nonce itself
}

func (s *sealer) open(id, sealed []byte) (answer, error) {
	var a answer
	plain, err := s.aead.Open(nil, nil, sealed, id)
	if err == nil {
		err = json.Unmarshal(plain, &a)
	}
	if err != nil {
		return a, fmt.Errorf("open a stored response: %w", err)
	}
	return a, nil
}
