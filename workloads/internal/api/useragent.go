// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"

	"github.com/danielgtaylor/huma/v2"
)

type userAgentKey struct{}

// KeepUserAgent keeps the User-Agent header for the audit log.
func KeepUserAgent(ctx huma.Context, next func(huma.Context)) {
	next(huma.WithValue(ctx, userAgentKey{}, ctx.Header("User-Agent")))
}

// UserAgent returns the caller's program.
func UserAgent(ctx context.Context) string {
	text, _ := ctx.Value(userAgentKey{}).(string)
	return text
}
