// SPDX-License-Identifier: Apache-2.0

package http

import (
	"crypto/sha256"
	"net/http"
	"sync"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/internal/dialguard"
)

// clients share one transport, and so its connections. A connection with its own certificates has its own transport, which is
// recreated when the certificates change.
type clients struct {
	guard  dialguard.Guard
	shared *http.Transport

	mu  sync.Mutex
	own map[string]ownTransport
}

type ownTransport struct {
	*http.Transport
	sum [sha256.Size]byte
}

const idlePerHost = 32

func newClients(guard dialguard.Guard) *clients {
	c := &clients{guard: guard, own: map[string]ownTransport{}}
	c.shared = c.transport()
	return c
}

func (c *clients) transport() *http.Transport {
	transport := c.guard.Transport()
	transport.MaxIdleConnsPerHost = idlePerHost
	return transport
}

// get returns the client for a connection, or "" for none.
func (c *clients) get(connection string, b backend.Binding) (*http.Client, error) {
	tlsConfig, err := b.TLSConfig()
	if err != nil {
		return nil, err
	}
	if tlsConfig == nil {
		return &http.Client{Transport: c.shared}, nil
	}
	sum := sha256.Sum256([]byte(b.CA + "\x00" + b.Extra["tls.crt"] + "\x00" + b.Extra["tls.key"] + "\x00" + b.Extra["tls-server-name"]))
	c.mu.Lock()
	defer c.mu.Unlock()
	found, ok := c.own[connection]
	if !ok || found.sum != sum {
		if ok {
			found.CloseIdleConnections()
		}
		found = ownTransport{Transport: c.transport(), sum: sum}
		found.TLSClientConfig = tlsConfig
		c.own[connection] = found
	}
	return &http.Client{Transport: found.Transport}, nil
}

func (c *clients) close() {
	c.shared.CloseIdleConnections()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, transport := range c.own {
		transport.CloseIdleConnections()
	}
}
