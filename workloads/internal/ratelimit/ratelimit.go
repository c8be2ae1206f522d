// SPDX-License-Identifier: Apache-2.0

// Package ratelimit gives every user, and every address that sends no token, a token bucket: in the process alone, or in
// Redis for all replicas together.
//
// A bucket is stored as one number, the time at which it is full again (the generic cell rate algorithm): taking a token
// moves it by the refill time of one token, and there is none if that is further ahead than a whole bucket.
package ratelimit

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/api/problem"
	"github.com/itechsmart/operator/workloads/internal/auth"
	"github.com/itechsmart/operator/workloads/internal/server"
)

// Defaults.
const (
	DefaultPerMinute  = 100
	DefaultMaxBuckets = 1 << 17

	// storeTimeout limits the time Redis may add to a request; storePause is how long it is not used after a failure.
	storeTimeout = 100 * time.Millisecond
	storePause   = time.Second
)

// Options of a Limiter, besides the limits.
type Options struct {
	// Prefix of the keys in Redis, which every replica of a service shares: "itechsmart/team-a/main/echo".
	Prefix   string
	Log      *slog.Logger
	Registry *prometheus.Registry
	// MaxBuckets limits the local buckets, about 100 bytes each.
	MaxBuckets int
	// Exempt principals have no limit: the manager's ServiceAccount.
	Exempt func(*auth.Principal) bool
	// Now is the clock of local buckets.
	Now func() time.Time
}

// Limiter counts requests. Safe for concurrent use.
type Limiter struct {
	bucket   bucket
	failOpen bool
	exempt   func(*auth.Principal) bool
	log      *slog.Logger
	now      func() time.Time

	local  *local
	shared *shared // nil: no Redis
	paused atomic.Int64
	count  *prometheus.CounterVec
}

// bucket describes the refill rate and the size of buckets.
type bucket struct {
	interval time.Duration // per token
	burst    int64
}

// full returns how long an empty bucket takes to refill.
func (b bucket) full() time.Duration { return time.Duration(b.burst) * b.interval }

// decision is the result for a request.
type decision struct {
	allowed   bool
	remaining int64         // tokens left
	full      time.Duration // until the bucket is full again
	retry     time.Duration // until there is a token
}

// decide takes a token from a bucket that is full at fullAt, now, both in microseconds, and returns the decision and the
// new fullAt.
func (b bucket) decide(fullAt, now int64) (d decision, next int64) {
	interval, whole := b.interval.Microseconds(), b.full().Microseconds()
	fullAt = max(fullAt, now)
	next = fullAt + interval
	if wait := next - whole - now; wait > 0 {
		return decision{full: micros(fullAt - now), retry: micros(wait)}, fullAt
	}
	return decision{allowed: true, remaining: (whole - (next - now)) / interval, full: micros(next - now)}, next
}

func micros(n int64) time.Duration { return time.Duration(n) * time.Microsecond }

// New returns a limiter; client nil: only local buckets.
func New(client *redis.Client, c config.RateLimit, o Options) (*Limiter, error) {
	l := &Limiter{failOpen: c.FailOpen, exempt: o.Exempt, log: o.Log, now: o.Now}
	perMinute := cmp.Or(c.RequestsPerMinute, DefaultPerMinute)
	if burst := cmp.Or(c.Burst, perMinute); perMinute > 0 {
		if burst < 1 {
			return nil, errors.New("rateLimit.burst: must be at least 1")
		}
		l.bucket = bucket{interval: max(time.Minute/time.Duration(perMinute), time.Microsecond), burst: int64(burst)}
	}
	if l.log == nil {
		l.log = slog.Default()
	}
	if l.now == nil {
		l.now = time.Now
	}
	l.local = newLocal(cmp.Or(o.MaxBuckets, DefaultMaxBuckets))
	if client != nil {
		l.shared = &shared{client: client, prefix: o.Prefix}
	}
	l.count = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ratelimit_requests_total",
		Help: "Requests by what the rate limit did: allowed, limited, refused (Redis failed), local (allowed or limited on local buckets because Redis failed).",
	}, []string{"result"})
	if o.Registry != nil {
		if err := o.Registry.Register(l.count); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// Middleware takes a token for each request from its user's bucket, or its address's without a user. It follows
// authentication. Over the limit: 429, with Retry-After.
func (l *Limiter) Middleware(next http.Handler) http.Handler {
	if l.bucket.burst == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := auth.From(r.Context())
		if p != nil && l.exempt != nil && l.exempt(p) {
			next.ServeHTTP(w, r)
			return
		}
		d, err := l.take(r.Context(), key(r.Context(), p))
		if err != nil {
			l.count.WithLabelValues("refused").Inc()
			e := problem.New(http.StatusServiceUnavailable, "rate_limit_unavailable", "the rate limit cannot be checked; try again")
			e.Headers = http.Header{"Retry-After": {"1"}}
			problem.Write(w, r, e)
			return
		}
		h := w.Header()
		h["Ratelimit-Limit"] = []string{strconv.FormatInt(l.bucket.burst, 10)}
		h["Ratelimit-Remaining"] = []string{strconv.FormatInt(d.remaining, 10)}
		h["Ratelimit-Reset"] = []string{seconds(d.full)}
		if !d.allowed {
			l.count.WithLabelValues("limited").Inc()
			e := problem.New(http.StatusTooManyRequests, "rate_limited", "too many requests; see Retry-After")
			e.Headers = http.Header{"Retry-After": {seconds(d.retry)}}
			problem.Write(w, r, e)
			return
		}
		l.count.WithLabelValues("allowed").Inc()
		next.ServeHTTP(w, r)
	})
}

// seconds rounds up: after that time there is a token.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

// key returns the bucket of a request.
func key(ctx context.Context, p *auth.Principal) string {
	if p != nil {
		return "u/" + string(p.Kind) + "/" + p.ID
	}
	return "a/" + Network(server.ClientIP(ctx))
}

// Network returns the network that counts as one address: for IPv6 the /64 of one customer.
func Network(addr netip.Addr) string {
	if addr.Is6() {
		if prefix, err := addr.Prefix(64); err == nil {
			return prefix.Masked().Addr().String()
		}
	}
	return addr.String()
}

// errStore means that Redis failed, or is not used after a failure.
var errStore = errors.New("the store of the rate limit failed")

func (l *Limiter) take(ctx context.Context, key string) (decision, error) {
	if l.shared == nil {
		return l.local.take(key, l.bucket, l.now().UnixMicro()), nil
	}
	d, err := l.takeShared(ctx, key)
	switch {
	case err == nil:
		return d, nil
	case !l.failOpen:
		return d, err
	}
	l.count.WithLabelValues("local").Inc()
	return l.local.take(key, l.bucket, l.now().UnixMicro()), nil
}

// takeShared uses Redis, unless it failed a moment ago: then one request at a time checks whether it is back.
func (l *Limiter) takeShared(ctx context.Context, key string) (decision, error) {
	until := l.paused.Load()
	if now := time.Now().UnixNano(); until != 0 && (now < until || !l.paused.CompareAndSwap(until, now+int64(storePause))) {
		return decision{}, errStore
	}
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	d, err := l.shared.take(limited, key, l.bucket)
	if err != nil {
		if l.paused.Swap(time.Now().Add(storePause).UnixNano()) == 0 {
			l.log.WarnContext(ctx, "the rate limit's store failed", "failOpen", l.failOpen, "error", err)
		}
		return d, errors.Join(errStore, err)
	}
	if until != 0 && l.paused.Swap(0) != 0 {
		l.log.InfoContext(ctx, "the rate limit's store is back")
	}
	return d, nil
}
