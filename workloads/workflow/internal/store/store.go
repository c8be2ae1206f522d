// SPDX-License-Identifier: Apache-2.0

// Package store keeps runs in PostgreSQL. Every change of a run is a Transition: it is decided from the run's row alone, which
// is locked for it, and committed with its events and with the tasks that follow from it. What reads many rows reads them in
// pages.
//
// One clock decides on time, Options.Now: it writes when a lease is over, a wait ends or a run has had its time, and it is
// compared with what was written. PostgreSQL's clock decides nothing. Two engines whose clocks differ by more than a lease
// begin a step twice; its outcome is recorded once all the same, since who records it has to hold the claim.
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

// Migrations make the schema; see db.Migrate.
//
//go:embed migrations/*.sql
var Migrations embed.FS

var (
	// ErrLost means that what was to be changed is another owner's, or is so already. There is nothing left to do.
	ErrLost = errors.New("somebody else has it")
	// ErrConflict means that the run is not in a state in which that can be done.
	ErrConflict = errors.New("conflict")
	// ErrNotFound means that there is no such run.
	ErrNotFound = fmt.Errorf("run %w", backend.ErrNotFound)
	// ErrBusy means that as many runs as may run at a time do already, and that the policy is to skip what comes then.
	ErrBusy = errors.New("the workflow runs as often as it may")
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
	// commits: while one waits for the disk, another one is made ready.
	commits = 2
)

// Options bound what runs may do; zero values are the defaults.
type Options struct {
	// Now is the clock; time.Now when nil.
	Now func() time.Time
	// Lease is how long a worker owns a step without a renewal; 8 s, so that another worker takes over within 10.
	Lease time.Duration
	// Redispatch is after which time a step that nobody took is put into the queue again; 30 s.
	Redispatch time.Duration
	// HandlerTime bounds all handlers of a run together; 10 minutes.
	HandlerTime time.Duration
	// MaxClaims is the number of workers that may die during one attempt of a step; 5.
	MaxClaims int
	// MaxOutput bounds an output, in bytes; 256 KiB.
	MaxOutput int
	// Publish is told what was committed and is to be published. It must not wait. What it does not remove by Published is
	// Unpublished after a while. nil: nobody publishes at once.
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

// Options returns the store's, with the defaults filled in.
func (s *Store) Options() Options { return s.options }

// now returns the clock in the precision of the database.
func (s *Store) now() time.Time { return s.options.Now().UTC().Truncate(time.Microsecond) }

// fail wraps an error of the database in the sentinel that suits it.
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

// maxKept bounds what is kept in a row, in bytes, whatever MaxOutput is.
const maxKept = 8 << 20

// kept bounds what is kept in a row, and the list of a forEach's outputs as it is kept.
func (o *Options) kept() int { return min(o.MaxOutput, maxKept) }

// CheckOutput refuses what is too large for an output, by a text for the step's error.
func (s *Store) CheckOutput(what string, data json.RawMessage) error {
	return check(what, data, s.options.MaxOutput)
}

// CheckKept refuses what is too large for a row, likewise.
func (s *Store) CheckKept(what string, data json.RawMessage) error {
	return check(what, data, s.options.kept())
}

func check(what string, data json.RawMessage, bound int) error {
	if len(data) > bound {
		return errors.New(tooLarge(what, len(data), bound))
	}
	return nil
}
