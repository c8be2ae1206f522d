// SPDX-License-Identifier: Apache-2.0

package backendtest

import (
	"context"
	"strings"
	"testing"

	"github.com/itechsmart/operator/internal/backend/redis"
)

// Redis runs the suite of redis.Admin.
func Redis(t *testing.T, open func(testing.TB) redis.Admin) {
	admin := open(t)
	t.Cleanup(func() { Must(t, admin.Close()) })
	version, err := admin.Ping(Context(t))
	Must(t, err)
	if strings.Count(version, ".") != 2 {
		t.Errorf("version %q, want three numbers", version)
	}
	Ended(t, func(ctx context.Context) error { _, err := admin.Ping(ctx); return err })
}
