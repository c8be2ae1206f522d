// SPDX-License-Identifier: Apache-2.0

package db

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// aloneEvery is how often the lock is requested, and how often it is checked.
	aloneEvery = time.Second
	// alonePing limits that check.
	alonePing = 5 * time.Second
)

// Alone runs do in one of all processes that call it with the same name on the same schema, until ctx ends. When that
// process dies another one starts. It holds a connection while do runs, and do's context ends when the connection is
// lost: do must tolerate that another process runs it too until the loss is detected.
func Alone(ctx context.Context, pool *pgxpool.Pool, name string, log *slog.Logger, do func(context.Context)) {
	for ctx.Err() == nil {
		if err := alone(ctx, pool, name, do); err != nil && ctx.Err() == nil {
			log.WarnContext(ctx, "the lock in the database could not be requested", "name", name, "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(aloneEvery):
		}
	}
}

func alone(ctx context.Context, pool *pgxpool.Pool, name string, do func(context.Context)) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	var mine bool
	if err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock(hashtextextended(current_schema() || '/' || $1, 0))", name).Scan(&mine); err != nil || !mine {
		return err
	}
	// Closing the connection releases the lock, in any state.
	defer conn.Conn().Close(context.WithoutCancel(ctx)) //nolint:errcheck // there is nothing to lose
	running, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		do(running)
	}()
	err = holds(running, conn.Conn(), done)
	stop()
	<-done
	return err
}

// holds returns when the connection is lost, ctx ends, or do has returned.
func holds(ctx context.Context, conn *pgx.Conn, done <-chan struct{}) error {
	ticker := time.NewTicker(aloneEvery)
	defer ticker.Stop()
	for {
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		ping, cancel := context.WithTimeout(ctx, alonePing)
		err := conn.Ping(ping)
		cancel()
		if err != nil {
			return err
		}
	}
}
