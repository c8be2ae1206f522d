// SPDX-License-Identifier: Apache-2.0

package ratelimit

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// takeScript is bucket.decide on Redis's clock, in one step. A Lua number has 53 bits: microseconds until the year 2255.
// The key expires when its bucket is full.
var takeScript = redis.NewScript(`
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local whole = interval * burst
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now)
local after = full + interval
local wait = after - whole - now
if wait > 0 then
  return {0, 0, full - now, wait}
end
redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', math.ceil((after - now) / 1000))
return {1, math.floor((whole - (after - now)) / interval), after - now, 0}
`)

// shared holds buckets in Redis.
type shared struct {
	client *redis.Client
	prefix string
}

func (s *shared) take(ctx context.Context, key string, b bucket) (decision, error) {
	answer, err := takeScript.Run(ctx, s.client, []string{s.prefix + "/ratelimit/" + key}, b.interval.Microseconds(), b.burst).Int64Slice()
	if err != nil {
		return decision{}, fmt.Errorf("take a token: %w", err)
	}
	if len(answer) != 4 {
		return decision{}, fmt.Errorf("take a token: %d numbers, want 4", len(answer))
	}
	return decision{allowed: answer[0] == 1, remaining: answer[1], full: micros(answer[2]), retry: micros(answer[3])}, nil
}
