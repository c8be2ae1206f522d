// SPDX-License-Identifier: Apache-2.0

package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	goredis "github.com/redis/go-redis/v9"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/auth"
	"github.com/itechsmart/operator/workloads/internal/binding"
	"github.com/itechsmart/operator/workloads/internal/server"
)

func TestMain(m *testing.M) { servers.Main(m) }

// clock is set by tests.
type clock struct{ micros atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.micros.Store(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro())
	return c
}

func (c *clock) now() time.Time          { return time.UnixMicro(c.micros.Load()) }
func (c *clock) advance(d time.Duration) { c.micros.Add(d.Microseconds()) }

func client(t testing.TB, b backend.Binding) *goredis.Client {
	t.Helper()
	c, err := OpenRedis(b.Data())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// service returns the limiter behind the server that determines addresses; the header X-User replaces authentication.
func service(t testing.TB, l *Limiter) func(headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	s := server.New(server.Options{Name: "test", Log: slog.New(slog.DiscardHandler), TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	limited := l.Middleware(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	s.Mount(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user := r.Header.Get("X-User"); user != "" {
			r = r.WithContext(auth.With(r.Context(), &auth.Principal{Kind: auth.KindUser, ID: user}))
		}
		limited.ServeHTTP(w, r)
	}))
	return func(headers ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/x", nil)
		r.RemoteAddr = "203.0.113.9:1234"
		for i := 0; i < len(headers); i += 2 {
			if headers[i] == "peer" {
				r.RemoteAddr = headers[i+1]
				continue
			}
			r.Header.Set(headers[i], headers[i+1])
		}
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		return w
	}
}

func limiter(t testing.TB, c *goredis.Client, limit config.RateLimit, o Options) *Limiter {
	t.Helper()
	o.Log = slog.New(slog.DiscardHandler)
	l, err := New(c, limit, o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// allowed counts how many of n requests pass.
func allowed(do func(...string) *httptest.ResponseRecorder, n int, headers ...string) (passed int) {
	for range n {
		if do(headers...).Code == http.StatusNoContent {
			passed++
		}
	}
	return passed
}

func TestLocal(t *testing.T) {
	c := newClock()
	do := service(t, limiter(t, nil, config.RateLimit{RequestsPerMinute: 60, Burst: 5}, Options{Now: c.now}))
	first := do("X-User", "a")
	for name, want := range map[string]string{"RateLimit-Limit": "5", "RateLimit-Remaining": "4", "RateLimit-Reset": "1", "Retry-After": ""} {
		if got := first.Header().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if n := allowed(do, 10, "X-User", "a"); n != 4 {
		t.Errorf("%d of 10 passed, want 4", n)
	}
	over := do("X-User", "a")
	if over.Code != http.StatusTooManyRequests || over.Header().Get("Retry-After") != "1" || over.Header().Get("RateLimit-Remaining") != "0" ||
		over.Header().Get("RateLimit-Reset") != "5" || !strings.Contains(over.Body.String(), `"rate_limited"`) {
		t.Errorf("over the limit: %d %v %s", over.Code, over.Header(), over.Body)
	}
	if n := allowed(do, 10, "X-User", "b"); n != 5 {
		t.Errorf("another user: %d of 10 passed, want 5", n)
	}
	if n := allowed(do, 10); n != 5 {
		t.Errorf("anonymous: %d of 10 passed, want 5", n)
	}
	c.advance(3 * time.Second)
	if n := allowed(do, 10, "X-User", "a"); n != 3 {
		t.Errorf("after 3 s: %d of 10 passed, want 3", n)
	}
	c.advance(time.Hour)
	if n := allowed(do, 10, "X-User", "a"); n != 5 {
		t.Errorf("after an hour: %d of 10 passed, want 5", n)
	}
}

func TestDefaults(t *testing.T) {
	do := service(t, limiter(t, nil, config.RateLimit{}, Options{Now: newClock().now}))
	if n := allowed(do, 150); n != 100 {
		t.Errorf("%d of 150 passed, want 100", n)
	}
	do = service(t, limiter(t, nil, config.RateLimit{RequestsPerMinute: -1}, Options{}))
	if n := allowed(do, 500); n != 500 {
		t.Errorf("without a limit %d of 500 passed", n)
	}
	if _, err := New(nil, config.RateLimit{Burst: -1}, Options{}); err == nil {
		t.Error("a negative burst was accepted")
	}
	exempt := func(p *auth.Principal) bool { return p.ID == "manager" }
	do = service(t, limiter(t, nil, config.RateLimit{RequestsPerMinute: 1}, Options{Exempt: exempt}))
	if n := allowed(do, 10, "X-User", "manager"); n != 10 {
		t.Errorf("exempt: %d of 10 passed", n)
	}
}

func TestForgedAddress(t *testing.T) {
	do := service(t, limiter(t, nil, config.RateLimit{RequestsPerMinute: 5}, Options{Now: newClock().now}))
	passed := 0
	for i := range 50 {
		passed += allowed(do, 1, "X-Forwarded-For", fmt.Sprintf("198.51.100.%d", i), "X-Real-Ip", fmt.Sprintf("198.51.100.%d", i))
	}
	if passed != 5 {
		t.Errorf("with forged addresses %d passed, want 5", passed)
	}
	// Behind a trusted proxy the client's claim comes first.
	passed = 0
	for i := range 50 {
		passed += allowed(do, 1, "peer", "10.0.0.1:1", "X-Forwarded-For", fmt.Sprintf("198.51.100.%d, 192.0.2.1", i))
	}
	if passed != 5 {
		t.Errorf("with forged addresses behind a proxy %d passed, want 5", passed)
	}
	// One customer has a /64.
	passed = 0
	for i := range 50 {
		passed += allowed(do, 1, "peer", fmt.Sprintf("[2001:db8::%x]:1", i+1))
	}
	if passed != 5 {
		t.Errorf("from one IPv6 network %d passed, want 5", passed)
	}
}

func TestLocalIsBounded(t *testing.T) {
	const limit = 1 << 12
	l := newLocal(limit)
	b := bucket{interval: time.Second, burst: 5}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range 500_000 {
		l.take(strconv.Itoa(i), b, int64(i))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if n := l.size(); n > limit {
		t.Errorf("%d buckets, want at most %d", n, limit)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 4<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	runtime.KeepAlive(l)
}

func TestShared(t *testing.T) {
	b := servers.Redis(t)
	limit := config.RateLimit{RequestsPerMinute: 6, Burst: 20} // one token in ten seconds: the test is faster
	prefix := Options{Prefix: t.Name()}
	replicas := []func(...string) *httptest.ResponseRecorder{
		service(t, limiter(t, client(t, b), limit, prefix)), service(t, limiter(t, client(t, b), limit, prefix)),
	}
	var passed atomic.Int64
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() { passed.Add(int64(allowed(replicas[i%2], 10, "X-User", "a"))) })
	}
	group.Wait()
	if n := passed.Load(); n < 20 || n > 21 {
		t.Errorf("%d of 80 passed over two replicas, want 20", n)
	}
	over := replicas[0]("X-User", "a")
	if retry, err := strconv.Atoi(over.Header().Get("Retry-After")); over.Code != http.StatusTooManyRequests || err != nil || retry < 1 || retry > 10 {
		t.Errorf("over the limit: %d %v", over.Code, over.Header())
	}
	if n := allowed(replicas[1], 1, "X-User", "b"); n != 1 {
		t.Error("another user is limited")
	}
	// The key expires by itself.
	ttl, err := client(t, b).PTTL(t.Context(), t.Name()+"/ratelimit/u/User/a").Result()
	if err != nil || ttl <= 0 || ttl > 201*time.Second {
		t.Errorf("the key lives %s, %v", ttl, err)
	}
}

// TestSharedDecides checks that Redis decides as the local bucket does.
func TestSharedDecides(t *testing.T) {
	c := client(t, servers.Redis(t))
	s := &shared{client: c, prefix: t.Name()}
	b := bucket{interval: 100 * time.Second, burst: 3}
	l := newLocal(100)
	for i := range 5 {
		got, err := s.take(t.Context(), "k", b)
		if err != nil {
			t.Fatal(err)
		}
		want := l.take("k", b, 1e9)
		if got.allowed != want.allowed || got.remaining != want.remaining || want.full-got.full > 10*time.Second || want.retry-got.retry > 10*time.Second {
			t.Errorf("request %d: %+v, the local bucket %+v", i, got, want)
		}
	}
}

func TestRedisFails(t *testing.T) {
	for _, failOpen := range []bool{true, false} {
		t.Run(fmt.Sprintf("failOpen=%t", failOpen), func(t *testing.T) {
			s := servers.StartRedis(t)
			registry := prometheus.NewRegistry()
			l := limiter(t, client(t, s.Binding), config.RateLimit{RequestsPerMinute: 5, FailOpen: failOpen}, Options{Registry: registry})
			do := service(t, l)
			if n := allowed(do, 10); n != 5 {
				t.Fatalf("%d of 10 passed, want 5", n)
			}
			s.Kill()
			start := time.Now()
			down := do()
			if failOpen {
				if n := allowed(do, 10) + min(1, down.Code/http.StatusNoContent); down.Code != http.StatusNoContent || n != 5 {
					t.Errorf("without Redis: %d, %d of 11 passed, want 5", down.Code, n)
				}
			} else if down.Code != http.StatusServiceUnavailable || down.Header().Get("Retry-After") == "" || allowed(do, 10) != 0 {
				t.Errorf("without Redis: %d %v", down.Code, down.Header())
			}
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("11 requests without Redis took %s", took)
			}
			s.Restart(t)
			deadline := time.Now().Add(20 * time.Second)
			for do("X-User", "late"); l.paused.Load() != 0; do("X-User", "late") {
				if time.Now().After(deadline) {
					t.Fatal("Redis is back, but not used")
				}
				time.Sleep(5 * time.Millisecond) // the polling interval
			}
			if back := do("X-User", "later"); back.Code != http.StatusNoContent {
				t.Errorf("with Redis back: %d %v", back.Code, back.Header())
			}
			keys, err := client(t, s.Binding).Exists(t.Context(), "/ratelimit/u/User/later").Result()
			if err != nil || keys != 1 {
				t.Errorf("with Redis back the bucket is missing: %d, %v", keys, err)
			}
		})
	}
}

// TestRedisHangs checks that a store that never responds delays one request a second, by storeTimeout.
func TestRedisHangs(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts, but nothing reads
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	hung := goredis.NewClient(&goredis.Options{Addr: listener.Addr().String(), ContextTimeoutEnabled: true})
	defer hung.Close()
	l := limiter(t, hung, config.RateLimit{RequestsPerMinute: 1000, FailOpen: true}, Options{})
	start := time.Now()
	for range 100 {
		if _, err := l.take(context.Background(), "k"); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("100 requests took %s", took)
	}
}

func FuzzBucket(f *testing.F) {
	f.Add(int64(0), int64(1000000), int64(600000), int64(100))
	f.Add(int64(5), int64(1), int64(1), int64(1))
	f.Fuzz(func(t *testing.T, fullAt, now, interval, burst int64) {
		if interval < 1 || interval > 60_000_000 || burst < 1 || burst > 1_000_000 || now < 0 || now > 1<<52 || fullAt < 0 || fullAt > now+interval*burst {
			t.Skip()
		}
		b := bucket{interval: micros(interval), burst: burst}
		d, next := b.decide(fullAt, now)
		if d.remaining < 0 || d.remaining >= burst || d.full < 0 || d.full > b.full() || next > now+interval*burst {
			t.Fatalf("%+v, %d", d, next)
		}
		if !d.allowed {
			if again, _ := b.decide(next, now+d.retry.Microseconds()); !again.allowed || d.retry <= 0 {
				t.Fatalf("after %s there is no token: %+v", d.retry, again)
			}
		}
	})
}

func BenchmarkLocal(b *testing.B) {
	l := newLocal(DefaultMaxBuckets)
	limit := bucket{interval: time.Millisecond, burst: 100}
	var n atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		key := "u/User/" + strconv.FormatInt(n.Add(1), 10)
		for pb.Next() {
			l.take(key, limit, time.Now().UnixMicro())
		}
	})
}

func BenchmarkShared(b *testing.B) {
	s := &shared{client: client(b, servers.Redis(b)), prefix: b.Name()}
	limit := bucket{interval: time.Millisecond, burst: 1000000}
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.take(b.Context(), "k", limit); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func TestOpenRedisRefuses(t *testing.T) {
	for name, b := range map[string]map[string]string{
		"no host":        {"port": "6379"},
		"no port":        {"host": "cache"},
		"not a database": {"host": "cache", "port": "6379", "database": "first"},
		"negative":       {"host": "cache", "port": "6379", "database": "-1"},
		"TLS":            {"host": "cache", "port": "6379", "tls": "perhaps"},
		"CA":             {"host": "cache", "port": "6379", "tls": "true", "ca.crt": "canary"},
		"key pair":       {"host": "cache", "port": "6379", "tls": "true", "tls.crt": "canary", "tls.key": "canary"},
	} {
		if _, err := OpenRedis(b); !errors.Is(err, binding.ErrInvalid) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", name, err)
		}
	}
	c, err := OpenRedis(map[string]string{"host": "cache", "port": "6379", "database": "3", "tls": "true"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if o := c.Options(); o.Addr != "cache:6379" || o.DB != 3 || o.TLSConfig == nil || o.TLSConfig.ServerName != "cache" {
		t.Errorf("%s, database %d, TLS %v", o.Addr, o.DB, o.TLSConfig)
	}
}
