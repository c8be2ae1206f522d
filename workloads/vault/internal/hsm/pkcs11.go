// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package hsm

import (
	"errors"
	"strings"
	"sync"

	"github.com/miekg/pkcs11"
)

// Supported reports whether this build can use a token.
const Supported = true

// token loads the library again for each call: an HSM that was unavailable, or a changed PIN, needs no restart.
type token struct {
	options Options
	mu      sync.Mutex
}

// New returns a Token; nothing is loaded yet.
func New(o Options) Token { return &token{options: o} }

// Wrap implements Token.
func (t *token) Wrap(secret []byte) (wrapped []byte, err error) {
	err = t.with(func(s *session) error {
		plaintext := bound(t.options.Context, secret)
		defer clear(plaintext)
		wrapped, err = s.wrap(plaintext)
		return err
	})
	return wrapped, err
}

// Unwrap implements Token.
func (t *token) Unwrap(wrapped []byte) (secret []byte, err error) {
	err = t.with(func(s *session) error {
		plaintext, err := s.unwrap(wrapped)
		if err != nil {
			return err
		}
		secret, err = unbound(t.options.Context, plaintext)
		return err
	})
	return secret, err
}

// with runs do in a session whose user is logged in.
func (t *token) with(do func(*session) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.options
	library := pkcs11.New(o.Module)
	if library == nil {
		return failed(ErrModule, "%s does not load: is it in the image, for its architecture, with its dependencies?", o.Module)
	}
	defer library.Destroy()
	switch err := library.Initialize(); {
	case is(err, pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED): // by another part of this process, which ends it
	case err != nil:
		return failed(ErrModule, "initialize %s: %w", o.Module, err)
	default:
		defer library.Finalize() //nolint:errcheck // nothing is lost
	}
	slot, err := findToken(library, o.TokenLabel)
	if err != nil {
		return err
	}
	handle, err := library.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION)
	if err != nil {
		return failed(ErrModule, "open a session with token %q: %w", o.TokenLabel, err)
	}
	defer library.CloseSession(handle) //nolint:errcheck // nothing is lost
	switch err := library.Login(handle, pkcs11.CKU_USER, o.PIN); {
	case is(err, pkcs11.CKR_USER_ALREADY_LOGGED_IN):
	case is(err, pkcs11.CKR_PIN_INCORRECT), is(err, pkcs11.CKR_PIN_INVALID), is(err, pkcs11.CKR_PIN_LEN_RANGE),
		is(err, pkcs11.CKR_PIN_LOCKED), is(err, pkcs11.CKR_PIN_EXPIRED):
		return failed(ErrPIN, "token %q: %w", o.TokenLabel, err)
	case err != nil:
		return failed(ErrModule, "log in to token %q: %w", o.TokenLabel, err)
	default:
		defer library.Logout(handle) //nolint:errcheck // closing the session does it too
	}
	s := &session{library: library, handle: handle, label: o.KeyLabel}
	if err := s.findKey(); err != nil {
		return err
	}
	return do(s)
}

func findToken(library *pkcs11.Ctx, label string) (slot uint, err error) {
	slots, err := library.GetSlotList(true)
	if err != nil {
		return 0, failed(ErrModule, "list the tokens: %w", err)
	}
	found := 0
	for _, candidate := range slots {
		info, err := library.GetTokenInfo(candidate)
		if err == nil && strings.TrimRight(info.Label, " \x00") == label {
			slot = candidate
			found++
		}
	}
	if found != 1 {
		return 0, failed(ErrToken, "%d of %d tokens have the label %q", found, len(slots), label)
	}
	return slot, nil
}

// is reports whether a call of the library failed with this code.
func is(err error, code uint) bool {
	e, ok := errors.AsType[pkcs11.Error](err)
	return ok && uint(e) == code
}
