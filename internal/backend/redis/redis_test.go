// SPDX-License-Identifier: Apache-2.0

package redis_test

import (
	"errors"
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/internal/backend/redis"
)

func TestMain(m *testing.M) { servers.Main(m) }

func open(t testing.TB, b backend.Binding) redis.Admin {
	t.Helper()
	admin, err := redis.New(b)
	if err != nil {
		t.Fatal(err)
	}
	return admin
}

func TestFake(t *testing.T) {
	backendtest.Redis(t, func(testing.TB) redis.Admin { return redis.NewFake() })
}

func TestReal(t *testing.T) {
	b := servers.Redis(t)
	backendtest.Redis(t, func(t testing.TB) redis.Admin { return open(t, b) })
}

func TestRefused(t *testing.T) {
	good := servers.Redis(t)
	for _, test := range []struct {
		name   string
		change func(*backend.Binding)
		want   error
	}{
		{"no password", func(b *backend.Binding) { b.Password = "" }, backend.ErrAuth},
		{"wrong password", func(b *backend.Binding) { b.Password = "wrong-" + b.Password }, backend.ErrAuth},
		{"unknown user", func(b *backend.Binding) { b.Username = "nobody" }, backend.ErrAuth},
		{"no such database", func(b *backend.Binding) { b.Database = "99" }, backend.ErrInvalid},
		{"connection refused", func(b *backend.Binding) { b.Port = "1" }, backend.ErrUnavailable},
		{"tls on a plain port", func(b *backend.Binding) { b.TLS = "true" }, backend.ErrUnavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := good
			test.change(&b)
			_, err := open(t, b).Ping(backendtest.Context(t))
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if strings.Contains(err.Error(), good.Password) {
				t.Error("the error contains the password")
			}
		})
	}
}

func TestSilent(t *testing.T) {
	backendtest.Silent(t, backend.Binding{}, redis.New)
}

func TestEncrypted(t *testing.T) {
	b := servers.Redis(t)
	backendtest.Encrypted(t, servers.TLS(t, b), servers.TLS(t, b).CA, redis.New)
}

func TestOutage(t *testing.T) {
	server := servers.StartRedis(t)
	admin := open(t, server.Binding)
	client := goredis.NewClient(&goredis.Options{
		Addr: server.Binding.Address(), Username: server.Binding.Username, Password: server.Binding.Password,
	})
	defer client.Close()
	ctx := backendtest.Context(t)
	if err := client.Set(ctx, "key", "value", 0).Err(); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	if _, err := admin.Ping(ctx); !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	server.Restart(t)
	ctx = backendtest.Context(t)
	if _, err := admin.Ping(ctx); err != nil {
		t.Error(err)
	}
	if _, err := client.Get(ctx, "key").Result(); err != nil {
		t.Error(err)
	}
}

func TestNew(t *testing.T) {
	for name, b := range map[string]backend.Binding{
		"host":     {Port: "1"},
		"port":     {Host: "h"},
		"database": {Host: "h", Port: "1", Database: "main"},
	} {
		if _, err := redis.New(b); !errors.Is(err, backend.ErrInvalid) || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want ErrInvalid naming %s", err, name)
		}
	}
}
