// SPDX-License-Identifier: Apache-2.0

// Package backendtest holds one conformance suite per backing system. Each runs against the fake and against
// the real server, so that a fake behaves like the server.
package backendtest

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/itechsmart/operator/internal/backend"
)

// timeout limits every single test of a suite; generous, for machines under load.
const timeout = 2 * time.Minute

// Context returns a context that ends with the test or after two minutes.
func Context(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	t.Cleanup(cancel)
	return ctx
}

// Name returns a fresh lower-case identifier, because the suites share one server.
func Name(prefix string) string { return prefix + "_" + strings.ToLower(rand.Text()[:10]) }

// Must fails the test on an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// WantIs fails unless err wraps want.
func WantIs(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want one that wraps %q", err, want)
	}
}

// Ended checks that a method called with an ended context returns ErrUnavailable at once.
func Ended(t testing.TB, call func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	start := time.Now()
	err := call(ctx)
	WantIs(t, err, backend.ErrUnavailable)
	WantIs(t, err, context.Canceled)
	if took := time.Since(start); took > 5*time.Second {
		t.Fatalf("returned after %s with an ended context", took)
	}
}
