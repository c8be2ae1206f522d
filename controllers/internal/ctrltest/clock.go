// SPDX-License-Identifier: Apache-2.0

package ctrltest

import (
	"sync"
	"time"
)

// Clock is the time plus what a test adds.
type Clock struct {
	mu    sync.Mutex
	added time.Duration
}

// Now is the time that a controller is to see.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.added)
}

// Add lets time pass.
func (c *Clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.added += d
}
