// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"context"
	"fmt"
	"sync"
)

// Faults is embedded in every fake: it counts calls by method name and makes methods fail on demand. The zero
// value is ready. Safe for concurrent use.
type Faults struct {
	mu    sync.Mutex
	fail  map[string]error
	calls map[string]int
}

// Fail makes every further call of the method return err; nil removes the fault.
func (f *Faults) Fail(method string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail == nil {
		f.fail = map[string]error{}
	}
	if err == nil {
		delete(f.fail, method)
		return
	}
	f.fail[method] = err
}

// Calls returns how often the method was called, including failed calls.
func (f *Faults) Calls(method string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[method]
}

// Total returns how often any method was called.
func (f *Faults) Total() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	total := 0
	for _, n := range f.calls {
		total += n
	}
	return total
}

// Enter is the first line of each method of a fake: it counts the call and returns the error to fail with, if
// any. An ended context is ErrUnavailable, as with the real clients.
func (f *Faults) Enter(ctx context.Context, method string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.calls == nil {
		f.calls = map[string]int{}
	}
	f.calls[method]++
	if err := f.fail[method]; err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w: %w", method, ErrUnavailable, err)
	}
	return nil
}
