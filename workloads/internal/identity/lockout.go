// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/itechsmart/operator/workloads/internal/api/problem"
)

const (
	// freeFailures have no pause; each further one doubles it, from a second up to maxPause.
	freeFailures = 5
	maxPause     = 5 * time.Minute
	// failureMemory is the time without a failure after which the count starts over.
	failureMemory = 30 * time.Minute
)

// lockedError means that the account has to wait.
type lockedError struct{ wait time.Duration }

func (e *lockedError) Error() string { return "too many failed logins" }

// answer returns a 429 with the time to wait.
func (e *lockedError) answer() error {
	p := problem.New(http.StatusTooManyRequests, "locked", "too many failed logins; try again later")
	p.Headers = http.Header{"Retry-After": {strconv.Itoa(seconds(e.wait))}}
	return p
}

func seconds(d time.Duration) int { return max(1, int((d+time.Second-1)/time.Second)) }

// lockout slows guessing down, per address that is tried, known or not. All replicas count together.
type lockout struct{ pool *pgxpool.Pool }

// hidden returns the stored form of an account: the input may be a password in the wrong field.
func hidden(account string) string {
	sum := sha256.Sum256([]byte(account))
	return hex.EncodeToString(sum[:])
}

// check returns a *lockedError while the account has to wait; failures is the number of previous ones.
func (l lockout) check(ctx context.Context, account string) (failures int, err error) {
	var wait float64
	err = l.pool.QueryRow(ctx, `SELECT failures, extract(epoch FROM locked_until - now())::float8 FROM login_failures
		WHERE account = $1 AND last_failure > now() - $2::interval`, hidden(account), failureMemory).Scan(&failures, &wait)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read failed logins: %w", err)
	}
	if wait > 0 {
		return failures, &lockedError{time.Duration(wait * float64(time.Second))}
	}
	return failures, nil
}

// fail counts a failed login.
func (l lockout) fail(ctx context.Context, account string) error {
	_, err := l.pool.Exec(ctx, `INSERT INTO login_failures AS f (account, failures, last_failure, locked_until) VALUES ($1, 1, now(), now())
		ON CONFLICT (account) DO UPDATE SET
			failures = CASE WHEN f.last_failure > now() - $2::interval THEN least(f.failures + 1, 1000) ELSE 1 END,
			last_failure = now(),
			locked_until = CASE WHEN f.last_failure > now() - $2::interval AND f.failures + 1 >= $3
				THEN now() + least(interval '1 second' * 2 ^ least(f.failures + 1 - $3, 20), $4::interval) ELSE now() END`,
		hidden(account), failureMemory, freeFailures, maxPause)
	if err != nil {
		return fmt.Errorf("count a failed login: %w", err)
	}
	return nil
}

// succeed resets the failures.
func (l lockout) succeed(ctx context.Context, account string, failures int) error {
	if failures == 0 {
		return nil
	}
	if _, err := l.pool.Exec(ctx, "DELETE FROM login_failures WHERE account = $1", hidden(account)); err != nil {
		return fmt.Errorf("reset failed logins: %w", err)
	}
	return nil
}
