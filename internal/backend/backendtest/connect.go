// SPDX-License-Identifier: Apache-2.0

package backendtest

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/itechsmart/operator/internal/backend"
)

// Pinger is implemented by every admin client.
type Pinger interface {
	Ping(ctx context.Context) (version string, err error)
	Close() error
}

// Encrypted checks a client against a TLS endpoint: it connects with its CA; with the system's roots or another
// CA it is unavailable and the error has the cause.
func Encrypted[A Pinger](t *testing.T, secure backend.Binding, otherCA string, open func(backend.Binding) (A, error)) {
	for name, test := range map[string]struct {
		ca   string
		want error
	}{
		"trusted": {secure.CA, nil}, "system roots": {"", backend.ErrUnavailable}, "another CA": {otherCA, backend.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			b := secure
			b.CA = test.ca
			admin, err := open(b)
			Must(t, err)
			defer admin.Close() //nolint:errcheck // the test is over
			_, err = admin.Ping(Context(t))
			WantIs(t, err, test.want)
			if err != nil && !strings.Contains(err.Error(), "certificate") {
				t.Errorf("the error lacks the cause: %v", err)
			}
		})
	}
}

// Silent checks that a client's deadline holds against a server that accepts the connection and sends nothing.
// b is complete except for the address.
func Silent[A Pinger](t *testing.T, b backend.Binding, open func(backend.Binding) (A, error)) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	Must(t, err)
	defer l.Close() //nolint:errcheck // the test is over
	b.Host, b.Port, err = net.SplitHostPort(l.Addr().String())
	Must(t, err)
	admin, err := open(b)
	Must(t, err)
	defer admin.Close() //nolint:errcheck // the test is over
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err = admin.Ping(ctx)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
	WantIs(t, err, backend.ErrUnavailable)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want DeadlineExceeded", err)
	}
}
