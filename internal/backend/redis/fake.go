// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"context"

	"github.com/itechsmart/operator/internal/backend"
)

// Fake is a running server. It embeds backend.Faults: Fail makes a method fail, Calls counts. Safe for
// concurrent use.
type Fake struct {
	backend.Faults

	// Version is returned by Ping.
	Version string
}

var _ Admin = (*Fake)(nil)

// NewFake returns an in-memory server.
func NewFake() *Fake { return &Fake{Version: "7.0.15"} }

// Ping implements Admin.
func (f *Fake) Ping(ctx context.Context) (string, error) {
	if err := f.Enter(ctx, "Ping"); err != nil {
		return "", err
	}
	return f.Version, nil
}

// Close implements Admin.
func (f *Fake) Close() error { return f.Enter(context.Background(), "Close") }
