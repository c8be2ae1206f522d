// SPDX-License-Identifier: Apache-2.0

package step

import (
	"maps"
	"sync"

	"github.com/itechsmart/operator/internal/backend"
)

// Pool holds one client per connection, and replaces it when the connection's binding changes, for example after a password
// rotation. A client of type C is used by many steps at once.
type Pool[C any] struct {
	open  func(backend.Binding) (C, error)
	close func(C)

	mu      sync.Mutex
	clients map[string]*pooled[C]
}

type pooled[C any] struct {
	client C
	data   map[string]string
	users  int
	old    bool // replaced; closed after its last use
}

// NewPool returns a pool that creates clients with open, which must not wait for a server.
func NewPool[C any](open func(backend.Binding) (C, error), closeClient func(C)) *Pool[C] {
	return &Pool[C]{open: open, close: closeClient, clients: map[string]*pooled[C]{}}
}

// Get returns the client of a connection. Call done when it is no longer used.
func (p *Pool[C]) Get(connection string, b backend.Binding) (client C, done func(), err error) {
	data := b.Data()
	p.mu.Lock()
	defer p.mu.Unlock()
	found := p.clients[connection]
	if found == nil || !maps.Equal(found.data, data) {
		opened, err := p.open(b)
		if err != nil {
			return client, nil, err
		}
		if found != nil {
			p.retire(found)
		}
		found = &pooled[C]{client: opened, data: data}
		p.clients[connection] = found
	}
	found.users++
	return found.client, sync.OnceFunc(func() { p.release(found) }), nil
}

func (p *Pool[C]) release(c *pooled[C]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.users--
	if c.old && c.users == 0 {
		go p.close(c.client) // it may wait for the network
	}
}

func (p *Pool[C]) retire(c *pooled[C]) {
	c.old = true
	if c.users == 0 {
		go p.close(c.client)
	}
}

// Close closes unused clients at once, and the others after their last use.
func (p *Pool[C]) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, found := range p.clients {
		p.retire(found)
	}
	clear(p.clients)
}
