// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// memo remembers which desired state was last found equal to which version of the live object, so that a pass that
// changes nothing compares two short values instead of two trees. It is an optimization alone: empty, it is only slower.
type memo struct {
	mu    sync.Mutex
	equal map[memoKey]memoValue
}

type memoKey struct {
	kind, namespace, name string
}

type memoValue struct {
	desired [sha256.Size]byte
	uid     types.UID
	version string
}

// mostRemembered bounds the memory: about 200 bytes each.
const mostRemembered = 200_000

func digest(owner, desired client.Object, kept bool) ([sha256.Size]byte, error) {
	data, err := json.Marshal(desired)
	if err != nil {
		return [sha256.Size]byte{}, fmt.Errorf("render %s: %w", desired.GetName(), err)
	}
	return sha256.Sum256(fmt.Appendf(data, "%s %t", owner.GetUID(), kept)), nil
}

func (m *memo) knows(key memoKey, value memoValue) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	known, ok := m.equal[key]
	return ok && known == value
}

func (m *memo) note(key memoKey, value memoValue) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.equal == nil || len(m.equal) >= mostRemembered {
		m.equal = map[memoKey]memoValue{}
	}
	m.equal[key] = value
}
