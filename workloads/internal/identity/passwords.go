// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/bcrypt"

	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/api/problem"
)

const (
	hashCost = 12 // some 240 ms
	// queueLength is how many passwords may wait: at two workers and 240 ms each the last one waits 8 s.
	queueLength = 64
	// maxPassword is bcrypt's limit: it ignores what follows.
	maxPassword = 72 // bytes
)

// errBusy means that too many passwords are waiting.
var errBusy = errors.New("too many logins wait")

// hasher runs bcrypt on a bounded number of processors with a bounded queue.
type hasher struct {
	cost  int
	jobs  chan func()
	dummy []byte // of no user's password
	done  sync.WaitGroup
	quit  chan struct{}
}

func newHasher(cost, workers, queue int) (*hasher, error) {
	if cost == 0 {
		cost = hashCost
	}
	if workers == 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	if queue == 0 {
		queue = queueLength
	}
	dummy, err := bcrypt.GenerateFromPassword([]byte(rand.Text()), cost)
	if err != nil {
		return nil, fmt.Errorf("bcrypt: %w", err)
	}
	h := &hasher{cost: cost, jobs: make(chan func(), queue), dummy: dummy, quit: make(chan struct{})}
	for range workers {
		h.done.Go(h.work)
	}
	return h, nil
}

func (h *hasher) work() {
	for {
		select {
		case job := <-h.jobs:
			job()
		case <-h.quit:
			return
		}
	}
}

// close ends the workers; waiting calls return by their context or errBusy.
func (h *hasher) close() {
	close(h.quit)
	h.done.Wait()
}

// run waits for a worker; errBusy at once if the queue is full.
func (h *hasher) run(ctx context.Context, job func()) error {
	finished := make(chan struct{})
	select {
	case h.jobs <- func() {
		defer close(finished)
		if ctx.Err() == nil { // otherwise the caller no longer waits
			job()
		}
	}:
	default:
		return errBusy
	}
	select {
	case <-finished:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	case <-h.quit:
		return errBusy
	}
}

// hash returns the bcrypt hash of a password that the rules accept.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	var out []byte
	var failed error
	if err := h.run(ctx, func() { out, failed = bcrypt.GenerateFromPassword([]byte(password), h.cost) }); err != nil {
		return "", err
	}
	if failed != nil {
		return "", errors.New("bcrypt failed") // its message could reveal the length
	}
	return string(out), nil
}

// matches compares a password with a hash. Without a hash it takes as long, and returns false, so that the time does not
// reveal whether a user exists.
func (h *hasher) matches(ctx context.Context, hash, password string) (bool, error) {
	compare := []byte(hash)
	if hash == "" || len(password) > maxPassword {
		hash, compare = "", h.dummy
	}
	same := false
	err := h.run(ctx, func() { same = bcrypt.CompareHashAndPassword(compare, []byte(password)) == nil })
	if err != nil {
		return false, err
	}
	return same && hash != "", nil
}

// checkPassword returns a 422 with the rule that the password breaks, never with the password.
func checkPassword(rules config.Password, field, password string) error {
	least := rules.MinLength
	if least == 0 {
		least = 8
	}
	has := func(is func(rune) bool) bool { return strings.ContainsFunc(password, is) }
	punctuation := func(r rune) bool { return unicode.IsPunct(r) || unicode.IsSymbol(r) }
	var details []problem.Detail
	demand := func(ok bool, rule string) {
		if !ok {
			details = append(details, problem.Detail{Field: field, Message: rule})
		}
	}
	demand(utf8.ValidString(password) && !strings.ContainsRune(password, 0), "must be text")
	demand(utf8.RuneCountInString(password) >= least, fmt.Sprintf("must have at least %d characters", least))
	demand(len(password) <= maxPassword, fmt.Sprintf("must have at most %d bytes", maxPassword))
	demand(!rules.Upper || has(unicode.IsUpper), "must have an upper-case letter")
	demand(!rules.Lower || has(unicode.IsLower), "must have a lower-case letter")
	demand(!rules.Digit || has(unicode.IsDigit), "must have a digit")
	demand(!rules.Punctuation || has(punctuation), "must have a punctuation mark or a symbol")
	if len(details) > 0 {
		return problem.New(http.StatusUnprocessableEntity, "weak_password", "the password does not meet the rules", details)
	}
	return nil
}

// busy returns the response to errBusy.
func busy() error {
	e := problem.New(http.StatusServiceUnavailable, "busy", "too many concurrent logins; try again")
	e.Headers = http.Header{"Retry-After": {"2"}}
	return e
}
