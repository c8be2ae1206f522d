// SPDX-License-Identifier: Apache-2.0

package ratelimit

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/itechsmart/operator/workloads/internal/binding"
)

const dialTimeout = 10 * time.Second

// OpenRedis returns a client of a binding's server, without connecting yet. Key database is the number of the database, 0
// if empty.
func OpenRedis(b map[string]string) (*redis.Client, error) {
	if err := binding.Require(b, "host", "port"); err != nil {
		return nil, err
	}
	encryption, err := binding.TLS(b)
	if err != nil {
		return nil, err
	}
	database := 0
	if text := b["database"]; text != "" {
		if database, err = strconv.Atoi(text); err != nil || database < 0 {
			return nil, fmt.Errorf("binding key %q: %q is not the number of a database: %w", "database", text, binding.ErrInvalid)
		}
	}
	logging()
	return redis.NewClient(&redis.Options{
		Addr: binding.Address(b), Username: b["username"], Password: b["password"], DB: database, TLSConfig: encryption,
		ClientName: "itechsmart", DialTimeout: dialTimeout, ContextTimeoutEnabled: true,
	}), nil
}

// logging is set once: go-redis has one logger for the whole process. Its messages are for debugging: callers get the errors.
var logging = sync.OnceFunc(func() { redis.SetLogger(structured{}) })

type structured struct{}

// Printf implements go-redis's logger.
func (structured) Printf(ctx context.Context, format string, arguments ...any) {
	slog.DebugContext(ctx, fmt.Sprintf(format, arguments...))
}
