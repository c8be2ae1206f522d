// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"embed"
	"encoding/binary"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/itechsmart/operator/workloads/internal/api/problem"
)

// Migrations lay the table of PostgresStore: give them to db.Migrate.
//
//go:embed migrations
var Migrations embed.FS

const (
	idempotencyKey    = "Idempotency-Key"
	replayedHeader    = "Idempotency-Replayed"
	maxIdempotencyKey = 255

	// DefaultIdempotencyTTL is how long a response is stored.
	DefaultIdempotencyTTL = 24 * time.Hour
	// idempotencyLease is how long a request may run before it counts as crashed and another may take its place.
	idempotencyLease = 2 * time.Minute
	// storeTimeout limits each call of a store.
	storeTimeout = 5 * time.Second
	// maxAnswer is the largest response that is stored.
	maxAnswer = 1 << 20
)

// Claim is the result of claiming a key.
type Claim struct {
	// Mine: the key was new, and is now claimed under the given name.
	Mine bool
	// Fingerprint of the first request, and its response; nil: it is in progress.
	Fingerprint, Answer []byte
}

// Store holds the responses to requests with an Idempotency-Key. Safe for concurrent use, by all replicas.
type Store interface {
	// Claim claims a new or expired key for the duration of the lease.
	Claim(ctx context.Context, id []byte, name string, fingerprint []byte, lease time.Duration) (Claim, error)
	// Finish stores the response for ttl, unless the lease is over and another request has the key.
	Finish(ctx context.Context, id []byte, name string, answer []byte, ttl time.Duration) error
	// Release removes a key that was claimed under this name.
	Release(ctx context.Context, id []byte, name string) error
}

// IdempotencyOptions configure Idempotency.
type IdempotencyOptions struct {
	// Key encrypts the stored responses and names their rows: at least 16 bytes, the same on every replica.
	Key []byte
	// Owner returns the sender of a request, "" for anonymous: a stored response is only returned to its owner. By
	// default the owner is the Authorization header.
	Owner func(context.Context) string
	// Except selects the requests whose handlers implement the key themselves; nil: none.
	Except func(*http.Request) bool
	// TTL is how long a response is stored; DefaultIdempotencyTTL if zero.
	TTL time.Duration
	Log *slog.Logger
}

// Idempotency returns the first response to a repeated POST (same Idempotency-Key, sender and request). The same key with
// another request is 422; while the first is in progress it is 409; if the store fails it is 503, and nothing is done.
// Successes are stored, and refusals that a retry would not change; after a failure of ours the key is free again. It
// follows authentication, and does not affect forms and requests without the header.
func Idempotency(store Store, o IdempotencyOptions) (func(http.Handler) http.Handler, error) {
	sealer, err := newSealer(o.Key)
	if err != nil {
		return nil, err
	}
	o.TTL = cmp.Or(o.TTL, DefaultIdempotencyTTL)
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return func(next http.Handler) http.Handler {
		return &idempotent{next: next, store: store, sealer: sealer, options: o}
	}, nil
}

type idempotent struct {
	next    http.Handler
	store   Store
	sealer  *sealer
	options IdempotencyOptions
}

func (i *idempotent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	keys := r.Header[idempotencyKey]
	if r.Method != http.MethodPost || len(keys) == 0 || i.options.Except != nil && i.options.Except(r) || strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		i.next.ServeHTTP(w, r)
		return
	}
	key, err := IdempotencyKey(r.Header, idempotencyKey)
	if err != nil {
		Write(w, r, err)
		return
	}
	body, err := io.ReadAll(r.Body) // the server limits it
	if err != nil {
		Write(w, r, Unread(r.Context(), err))
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	i.once(w, r, i.id(r, key), i.fingerprint(r, body))
}

// id returns the row of a sender's key. All anonymous requests are one sender, and their keys are per path: a key must
// not keep another path from requiring a login.
func (i *idempotent) id(r *http.Request, key string) []byte {
	owner := i.owner(r)
	if owner == "" {
		return i.sealer.mac("anonymous id", []byte(r.URL.EscapedPath()), []byte(key))
	}
	return i.sealer.mac("id", []byte(owner), []byte(key))
}

// once serves the request, or returns the stored response.
func (i *idempotent) once(w http.ResponseWriter, r *http.Request, id, fingerprint []byte) {
	ctx, cancel := context.WithTimeout(r.Context(), storeTimeout)
	defer cancel()
	name := rand.Text()
	claim, err := i.store.Claim(ctx, id, name, fingerprint, idempotencyLease)
	switch {
	case err != nil:
		e := problem.From(Unavailable(time.Second, "the idempotency key cannot be checked; nothing was done"))
		e.Cause = err
		Write(w, r, e)
	case claim.Mine:
		i.do(w, r, id, name)
	case !hmac.Equal(claim.Fingerprint, fingerprint):
		Write(w, r, problem.New(http.StatusUnprocessableEntity, "idempotency_key_reused", "the idempotency key belongs to another request"))
	case claim.Answer == nil:
		e := problem.New(http.StatusConflict, "idempotency_key_in_use", "the first request with this idempotency key is in progress")
		e.Headers = http.Header{"Retry-After": {"1"}}
		Write(w, r, e)
	default:
		i.replay(w, r, id, claim.Answer)
	}
}

// do serves the request and stores its response before the client gets it.
func (i *idempotent) do(w http.ResponseWriter, r *http.Request, id []byte, name string) {
	recorded := &recorder{ResponseWriter: w}
	stored := false
	// Also if the client disconnected: the store must record the end.
	ctx := context.WithoutCancel(r.Context())
	defer func() {
		if stored {
			return
		}
		limited, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		if err := i.store.Release(limited, id, name); err != nil {
			i.options.Log.WarnContext(ctx, "an idempotency key stays taken until its lease ends", "error", err)
		}
	}()
	i.next.ServeHTTP(recorded, r)
	if final(recorded.status()) {
		limited, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		sealed, err := i.sealer.seal(id, recorded.answer())
		if err == nil {
			err = i.store.Finish(limited, id, name, sealed, i.options.TTL)
		}
		// The work is done: the key must not become free.
		stored = true
		if err != nil {
			i.options.Log.ErrorContext(ctx, "a response was not stored: its idempotency key stays taken until its lease ends", "error", err)
		}
	}
	recorded.flush()
}

func (i *idempotent) replay(w http.ResponseWriter, r *http.Request, id, sealed []byte) {
	a, err := i.sealer.open(id, sealed)
	if err != nil {
		e := problem.From(Unavailable(time.Minute, "the stored response cannot be read"))
		e.Cause = err
		Write(w, r, e)
		return
	}
	if a.Truncated {
		Write(w, r, problem.New(http.StatusConflict, "idempotency_answer_gone", "the request was carried out; its response was too large to store"))
		return
	}
	h := w.Header()
	for name, values := range a.Header {
		h[name] = values
	}
	h.Set(replayedHeader, "true")
	w.WriteHeader(a.Status)
	_, _ = w.Write(a.Body)
}

func (i *idempotent) owner(r *http.Request) string {
	if i.options.Owner != nil {
		return i.options.Owner(r.Context())
	}
	return r.Header.Get("Authorization")
}

func (i *idempotent) fingerprint(r *http.Request, body []byte) []byte {
	return i.sealer.mac("request", []byte(r.URL.EscapedPath()), []byte(r.URL.RawQuery), body)
}

// final reports whether a retry would get the same response.
func final(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusRequestTimeout, http.StatusConflict, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return status < http.StatusInternalServerError && status != problem.StatusClientGone
}

// IdempotencyKey returns the key in a header, Idempotency-Key if name is empty; empty: there is none. 400 if it is
// malformed.
func IdempotencyKey(h http.Header, name string) (string, error) {
	name = http.CanonicalHeaderKey(cmp.Or(name, idempotencyKey))
	keys := h[name]
	switch {
	case len(keys) == 0:
		return "", nil
	case len(keys) > 1 || !validKey(keys[0]):
		return "", problem.New(http.StatusBadRequest, "bad_request", "the request is malformed",
			Detail{Field: "header." + name, Message: "must be 1 to 255 visible ASCII characters, once"})
	}
	return keys[0], nil
}

func validKey(key string) bool {
	if key == "" || len(key) > maxIdempotencyKey {
		return false
	}
	for i := range len(key) {
		if key[i] <= ' ' || key[i] > '~' {
			return false
		}
	}
	return true
}

// lengths joins parts unambiguously.
func lengths(h io.Writer, parts ...[]byte) {
	var length [8]byte
	for _, part := range parts {
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		_, _ = h.Write(length[:])
		_, _ = h.Write(part)
	}
}

func macOf(key []byte, purpose string, parts ...[]byte) []byte {
	mac := hmac.New(sha256.New, key)
	lengths(mac, append([][]byte{[]byte(purpose)}, parts...)...)
	return mac.Sum(nil)
}
