// SPDX-License-Identifier: Apache-2.0

//go:build !cgo

package hsm

import (
	"errors"
	"strings"
	"testing"
)

func TestUnsupported(t *testing.T) {
	token := New(Options{})
	_, wrap := token.Wrap([]byte("secret"))
	_, unwrap := token.Unwrap([]byte("wrapped"))
	if Supported || !errors.Is(wrap, ErrUnsupported) || !errors.Is(unwrap, ErrUnsupported) || !strings.Contains(wrap.Error(), "CGO_ENABLED=1") {
		t.Errorf("%v, %v", wrap, unwrap)
	}
}
