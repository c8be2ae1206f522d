// SPDX-License-Identifier: Apache-2.0

package ctrltest

import (
	"sync"
	"testing"
	"time"

	"github.com/onsi/gomega"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Outlast waits until what is made from now on is younger than obj: times of creation have seconds, and of two resources of
// one second the UID decides which is older.
func Outlast(t *testing.T, obj client.Object) {
	t.Helper()
	made := obj.GetCreationTimestamp()
	gomega.NewWithT(t).Eventually(func() bool { return time.Now().Unix() > made.Unix() }, Timeout, Interval).
		Should(gomega.BeTrue(), "the clock of this machine is behind that of the API server")
}

// Clock is the time plus what a test adds.
type Clock struct {
	mu    sync.Mutex
	added time.Duration
}

// Now returns the time that a controller sees.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.added)
}

// Add moves the clock forward.
func (c *Clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.added += d
}
