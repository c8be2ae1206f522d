// SPDX-License-Identifier: Apache-2.0

// Package store stores runs in PostgreSQL. Every change of a run is a Transition: it is decided from the run's locked row alone,
// and committed with its events and the resulting tasks. Queries over many rows are paged.
//
// Options.Now is the only clock: it sets the ends of leases, waits and deadlines, and is compared with them. PostgreSQL's clock
// decides nothing. If the clocks of two engines differ by more than a lease, a step may be started twice; its outcome is still
// recorded once, since recording it requires the claim.
package store

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/internal/db"
)

// Migrations create the schema; see db.Migrate.
//
//go:embed migrations/*.sql
var Migrations embed.FS

var (
	// ErrLost means that another owner has the claim, or that the change is already made. There is nothing left to do.
	ErrLost = errors.New("the claim is lost or the change is already made")
	// ErrConflict means that the state of the run does not allow the change.
	ErrConflict = errors.New("conflict")
	// ErrNotFound means that the run does not exist.
	ErrNotFound = fmt.Errorf("run %w", backend.ErrNotFound)
	// ErrBusy means that the concurrency limit is reached and that its policy is to skip further runs.
	ErrBusy = errors.New("the concurrency limit of the workflow is reached")
)

const (
	defaultLease       = 8 * time.Second
	defaultRedispatch  = 30 * time.Second
	defaultHandlerTime = 10 * time.Minute
	defaultMaxClaims   = 5
	defaultMaxOutput   = 256 << 10
)

const (
	committedTogether = 128
	// commits is the number of concurrent commits: while one waits for the disk, the next is prepared.
	commits = 2
)

// Options set limits for runs. Zero values select the defaults.
type Options struct {
	// Now is the clock; the default is time.Now.
	Now func() time.Time
	// Lease is how long a worker owns a step without renewing its claim; the default is 8 s, so that another worker takes over within
	// 10 s.
	Lease time.Duration
	// Redispatch is the time after which an unclaimed step is queued again; the default is 30 s.
	Redispatch time.Duration
	// HandlerTime bounds the duration of all handlers of a run together; the default is 10 minutes.
	HandlerTime time.Duration
	// MaxClaims is the number of workers that may crash during one attempt of a step; the default is 5.
	MaxClaims int
	// MaxOutput bounds an output, in bytes; the default is 256 KiB.
	MaxOutput int
	// Publish receives committed messages. It must not block. Messages that are not removed by Published are returned by Unpublished
	// later. It is optional.
	Publish func([]Message)
}

// Store is safe for concurrent use.
type Store struct {
	pool    *pgxpool.Pool
	options Options

	transitions *db.Joiner[request]
	starts      *db.Joiner[start]
	hub         hub
	totals      totals
	owner       atomic.Pointer[string]
}

// New opens a store on a pool whose search_path is the schema that Migrations were applied to.
func New(pool *pgxpool.Pool, o Options) *Store {
	if o.Now == nil {
		o.Now = time.Now
	}
	for value, byDefault := range map[*time.Duration]time.Duration{&o.Lease: defaultLease, &o.Redispatch: defaultRedispatch, &o.HandlerTime: defaultHandlerTime} {
		if *value == 0 {
			*value = byDefault
		}
	}
	if o.MaxClaims == 0 {
		o.MaxClaims = defaultMaxClaims
	}
	if o.MaxOutput == 0 {
		o.MaxOutput = defaultMaxOutput
	}
	s := &Store{pool: pool, options: o}
	s.transitions = db.NewJoiner(committedTogether, commits, s.commit)
	s.starts = db.NewJoiner(committedTogether, commits, s.insert)
	return s
}

// Options returns the options with their defaults set.
func (s *Store) Options() Options { return s.options }

// now returns the time in the precision of the database.
func (s *Store) now() time.Time { return s.options.Now().UTC().Truncate(time.Microsecond) }

// fail wraps an error of the database in its sentinel error.
func fail(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), db.Unavailable(err):
		return fmt.Errorf("%s: %w: %w", op, backend.ErrUnavailable, err)
	case errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("%s: %w", op, ErrNotFound)
	}
	return fmt.Errorf("%s: %w", op, err)
}

// maxRowBytes bounds a value in a row, in bytes, whatever MaxOutput is.
const maxRowBytes = 8 << 20

// maxRow bounds a value in a row, including the list of a forEach's outputs.
func (o *Options) maxRow() int { return min(o.MaxOutput, maxRowBytes) }

// CheckOutput returns an error, for the step's error text, if data is too large for an output.
func (s *Store) CheckOutput(what string, data json.RawMessage) error {
	return check(what, data, s.options.MaxOutput)
}

// CheckRow is like CheckOutput, for a value in a row.
func (s *Store) CheckRow(what string, data json.RawMessage) error {
	return check(what, data, s.options.maxRow())
}

func check(what string, data json.RawMessage, bound int) error {
	if len(data) > bound {
		return errors.New(tooLarge(what, len(data), bound))
	}
	return nil
}
