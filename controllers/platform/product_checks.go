// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"sync"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// checks remembers what was found in servers as it should be, and when: a server is asked again when what should be
// changes, and every interval.
type checks struct {
	interval time.Duration

	mu   sync.Mutex
	done map[client.ObjectKey]map[string]lastCheck
}

type lastCheck struct {
	of string
	at time.Time
}

func newChecks(interval time.Duration) *checks {
	return &checks{interval: interval, done: map[client.ObjectKey]map[string]lastCheck{}}
}

// due tells whether a product's objects are to be looked at, and else in how long.
func (c *checks) due(platform client.ObjectKey, product, of string) (bool, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	last, ok := c.done[platform][product]
	left := c.interval - time.Since(last.at)
	return !ok || last.of != of || left <= 0, left
}

func (c *checks) note(platform client.ObjectKey, product, of string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done[platform] == nil {
		c.done[platform] = map[string]lastCheck{}
	}
	c.done[platform][product] = lastCheck{of: of, at: time.Now()}
}

func (c *checks) forget(platform client.ObjectKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.done, platform)
}
