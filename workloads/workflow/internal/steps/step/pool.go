// SPDX-License-Identifier: Apache-2.0

package step

import (
	"maps"
	"sync"

	"github.com/itechsmart/operator/internal/backend"
)

// Pool keeps one client per connection, and replaces it when the connection's binding changed, by a rotated password
// say. C is what a type keeps; it is used by many steps at once.
type Pool[C any] struct {
	open  func(backend.Binding) (C, error)
	close func(C)

	mu   sync.Mutex
	kept map[string]*pooled[C]
}

type pooled[C any] struct {
	client C
	data   map[string]string
	users  int
	old    bool // nobody else gets it; it is closed when the last one is done
}

// NewPool makes clients by open, which does not wait for a server.
func NewPool[C any](open func(backend.Binding) (C, error), closeClient func(C)) *Pool[C] {
	return &Pool[C]{open: open, close: closeClient, kept: map[string]*pooled[C]{}}
}

// Get returns the client of a connection. Call done when it is no longer used.
func (p *Pool[C]) Get(connection string, b backend.Binding) (client C, done func(), err error) {
	data := b.Data()
	p.mu.Lock()
	defer p.mu.Unlock()
	found := p.kept[connection]
	if found == nil || !maps.Equal(found.data, data) {
		made, err := p.open(b)
		if err != nil {
			return client, nil, err
		}
		if found != nil {
			p.retire(found)
		}
		found = &pooled[C]{client: made, data: data}
		p.kept[connection] = found
	}
	found.users++
	return found.client, sync.OnceFunc(func() { p.release(found) }), nil
}

func (p *Pool[C]) release(of *pooled[C]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	of.users--
	if of.old && of.users == 0 {
		go p.close(of.client) // it may wait for the network
	}
}

func (p *Pool[C]) retire(of *pooled[C]) {
	of.old = true
	if of.users == 0 {
		go p.close(of.client)
	}
}

// Close closes the clients that nobody uses, and the others when they are given back.
func (p *Pool[C]) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, found := range p.kept {
		p.retire(found)
	}
	clear(p.kept)
}
