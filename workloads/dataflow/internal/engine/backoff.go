// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

// backoff is exponential with jitter: each delay is between half and all of twice the previous one.
type backoff struct {
	initial, max time.Duration
	failures     int
}

const (
	defaultInitial = 200 * time.Millisecond
	defaultMax     = 10 * time.Second
)

func newBackoff(retry config.Retry) *backoff {
	b := &backoff{initial: time.Duration(retry.Initial), max: time.Duration(retry.Max)}
	if b.initial <= 0 {
		b.initial = defaultInitial
	}
	if b.max <= 0 {
		b.max = defaultMax
	}
	b.max = max(b.max, b.initial)
	return b
}

func (b *backoff) reset() { b.failures = 0 }

// next returns the delay after another failure.
func (b *backoff) next() time.Duration {
	delay := b.max
	if b.failures < 30 {
		delay = min(b.max, b.initial<<b.failures)
	}
	b.failures++
	return delay/2 + rand.N(delay/2+1)
}

// wait sleeps for the next delay; it returns early when the context ends, and with true if the flag was set.
func (b *backoff) wait(ctx context.Context, wake *flag) bool {
	timer := time.NewTimer(b.next())
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-wake.signal():
		return true
	}
	return false
}

// flag is a request that may be set many times and is handled once.
type flag struct {
	once sync.Once
	ch   chan struct{}
}

func (f *flag) channel() chan struct{} {
	f.once.Do(func() { f.ch = make(chan struct{}, 1) })
	return f.ch
}

func (f *flag) set() {
	select {
	case f.channel() <- struct{}{}:
	default:
	}
}

// signal returns the channel that delivers the request; receiving consumes it. A nil flag is never set.
func (f *flag) signal() <-chan struct{} {
	if f == nil {
		return nil
	}
	return f.channel()
}
