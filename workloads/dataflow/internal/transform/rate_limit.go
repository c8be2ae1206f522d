// SPDX-License-Identifier: Apache-2.0

package transform

import (
	"context"
	"fmt"

	"golang.org/x/time/rate"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
)

// RateLimitConfig configures the type rateLimit.
type RateLimitConfig struct {
	PerSecond float64 `json:"perSecond" jsonschema:"required,exclusiveMinimum=0,description=Records per second and worker"`
	Burst     int     `json:"burst,omitempty" jsonschema:"minimum=1,default=1,description=Records that may pass at once after a pause"`
}

type rateLimiter struct{ limiter *rate.Limiter }

func rateLimitSpec() Spec {
	return specOf("rateLimit", "Passes this many records per second and slows the source down to that rate.", func(cfg RateLimitConfig, _ Env) (any, error) {
		return &rateLimiter{limiter: rate.NewLimiter(rate.Limit(cfg.PerSecond), cfg.Burst)}, nil
	})
}

// Apply waits until the batch may pass.
func (l *rateLimiter) Apply(ctx context.Context, batch *record.Batch) error {
	for left := len(batch.Records); left > 0; {
		part := min(left, l.limiter.Burst())
		if err := l.limiter.WaitN(ctx, part); err != nil {
			return fmt.Errorf("wait for the rate limit: %w", err)
		}
		left -= part
	}
	return nil
}
