// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"sync"
	"testing"
)

// TestManagersThatStartAtOnce: two managers of one process that start together both get their collector in.
func TestManagersThatStartAtOnce(t *testing.T) {
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			if err := registerMetrics(nil); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}
