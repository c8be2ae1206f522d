// SPDX-License-Identifier: Apache-2.0

// Package redis connects to Redis and servers that speak its protocol.
package redis

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/itechsmart/operator/internal/backend"
)

// Admin probes one server. Ping wraps a sentinel of package backend.
type Admin interface {
	// Ping returns the server's version, such as "7.2.4"; ErrAuth, ErrUnavailable.
	Ping(ctx context.Context) (version string, err error)
	// Close releases the connections.
	Close() error
}

const dialTimeout = 10 * time.Second

// structured forwards what go-redis would print to the process's own log. Failures are also returned to the
// caller, so it is only for debugging.
type structured struct{}

func (structured) Printf(ctx context.Context, format string, arguments ...any) {
	slog.DebugContext(ctx, fmt.Sprintf(format, arguments...))
}

// logging is set once: go-redis has one logger for the whole process.
var logging = sync.OnceFunc(func() { goredis.SetLogger(structured{}) })

// optionsOf returns go-redis's options for the binding's server. Key database is the number of the database, 0
// if empty. ErrInvalid names the invalid key.
func optionsOf(b backend.Binding) (*goredis.Options, error) {
	if err := b.Require("host", "port"); err != nil {
		return nil, err
	}
	config, err := b.TLSConfig()
	if err != nil {
		return nil, err
	}
	if config != nil && config.ServerName == "" {
		config.ServerName = b.Host
	}
	database := 0
	if b.Database != "" {
		if database, err = strconv.Atoi(b.Database); err != nil || database < 0 {
			return nil, fmt.Errorf("binding key %q: %q is not the number of a database: %w", "database", b.Database, backend.ErrInvalid)
		}
	}
	logging()
	return &goredis.Options{
		Addr: b.Address(), Username: b.Username, Password: b.Password, DB: database, TLSConfig: config,
		ClientName: "itechsmart", DialTimeout: dialTimeout, ContextTimeoutEnabled: true,
	}, nil
}

type admin struct {
	binding backend.Binding
	client  *goredis.Client
}

// New returns a client that connects on the first call. ErrInvalid names the key that the binding lacks.
func New(b backend.Binding) (Admin, error) {
	options, err := optionsOf(b)
	if err != nil {
		return nil, err
	}
	// A probe must return the first failure.
	options.PoolSize, options.MaxRetries, options.DialerRetries = 2, -1, 1
	return &admin{binding: b, client: goredis.NewClient(options)}, nil
}

func (a *admin) Close() error { return a.client.Close() }

func (a *admin) Ping(ctx context.Context) (string, error) {
	info, err := a.client.Info(ctx, "server").Result()
	if err != nil {
		return "", Error(a.binding, "ping", err)
	}
	for line := range strings.Lines(info) {
		if version, ok := strings.CutPrefix(strings.TrimSpace(line), "redis_version:"); ok {
			return version, nil
		}
	}
	return "", a.binding.Error("redis: ping", backend.ErrInvalid, fmt.Errorf("INFO has no redis_version"))
}

// Error wraps a client's error in the matching sentinel.
func Error(b backend.Binding, op string, err error) error {
	return b.Error("redis: "+op, kindOf(err), err)
}

func kindOf(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	for prefix, kind := range map[string]error{
		"NOAUTH": backend.ErrAuth, "WRONGPASS": backend.ErrAuth, "NOPERM": backend.ErrAuth,
		"ERR invalid password": backend.ErrAuth, "ERR AUTH": backend.ErrAuth,
		"ERR Client sent AUTH, but no password is set": backend.ErrAuth,
		"LOADING": backend.ErrUnavailable, "BUSY": backend.ErrUnavailable, "MASTERDOWN": backend.ErrUnavailable,
		"CLUSTERDOWN": backend.ErrUnavailable, "READONLY": backend.ErrUnavailable, "TRYAGAIN": backend.ErrUnavailable,
		"ERR DB index is out of range": backend.ErrInvalid, "WRONGTYPE": backend.ErrInvalid,
		"ERR unknown command": backend.ErrInvalid,
	} {
		if strings.HasPrefix(text, prefix) {
			return kind
		}
	}
	return nil
}
