// SPDX-License-Identifier: Apache-2.0

//go:build !cgo

package hsm

// Supported reports whether this build can use a token.
const Supported = false

type none struct{}

// New returns a Token whose calls return ErrUnsupported.
func New(Options) Token { return none{} }

// Wrap implements Token.
func (none) Wrap([]byte) ([]byte, error) { return nil, ErrUnsupported }

// Unwrap implements Token.
func (none) Unwrap([]byte) ([]byte, error) { return nil, ErrUnsupported }
