// SPDX-License-Identifier: Apache-2.0

package service

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/internal/product/producttest"
	wire "github.com/itechsmart/operator/workloads/vault/client"
)

// balancer distributes connections to the replicas that reported ready, like a Service of Kubernetes: it knows nothing of
// HTTP, and a connection stays with its replica.
type balancer struct {
	t    testing.TB
	url  string
	lost atomic.Int64 // connections that no replica accepted

	mu       sync.Mutex
	replicas []*child
	ready    []*child
	turn     int
}

func newBalancer(t testing.TB) *balancer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &balancer{t: t, url: "http://" + listener.Addr().String()}
	ended := make(chan struct{})
	var work sync.WaitGroup
	t.Cleanup(func() { close(ended); _ = listener.Close(); work.Wait() })
	work.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go b.pass(conn)
		}
	})
	work.Go(func() {
		for {
			select {
			case <-ended:
				return
			case <-time.After(50 * time.Millisecond): // the probe's period
				b.probe()
			}
		}
	})
	return b
}

// set replaces the replicas that get new connections.
func (b *balancer) set(replicas ...*child) {
	b.mu.Lock()
	b.replicas = replicas
	b.mu.Unlock()
	b.probe()
}

func (b *balancer) probe() {
	b.mu.Lock()
	replicas := b.replicas
	b.mu.Unlock()
	ready := slices.DeleteFunc(slices.Clone(replicas), func(c *child) bool { return !c.Ready() })
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ready = ready
}

func (b *balancer) pass(in net.Conn) {
	defer in.Close()
	b.mu.Lock()
	var to *child
	if len(b.ready) > 0 {
		b.turn++
		to = b.ready[b.turn%len(b.ready)]
	}
	b.mu.Unlock()
	if to == nil {
		b.lost.Add(1)
		return
	}
	out, err := net.Dial("tcp", strings.TrimPrefix(to.URL, "http://"))
	if err != nil {
		b.lost.Add(1)
		return
	}
	defer out.Close()
	go func() {
		_, _ = io.Copy(out, in)
		_ = out.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(in, out)
}

// load sends requests at a fixed rate, without waiting for responses.
type load struct {
	running
	client *http.Client
	sent   atomic.Int64
	done   atomic.Int64
	failed atomic.Int64
	inform sync.Once
}

const rate = 500 // requests a second

// run sends until ended is closed, and returns when every request has its response.
func (l *load) run(ended <-chan struct{}) {
	var requests sync.WaitGroup
	defer requests.Wait()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for began := time.Now(); ; {
		select {
		case <-ended:
			return
		case <-ticker.C:
		}
		for due := int64(time.Since(began).Seconds() * rate); l.sent.Load() < due; {
			n := l.sent.Add(1)
			requests.Go(func() {
				if err := l.request(n); err != nil {
					l.failed.Add(1)
					l.inform.Do(func() { l.T.Errorf("request %d: %v", n, err) })
				}
				l.done.Add(1)
			})
		}
	}
}

// request sends one request; one in ten writes. A write is sent once, because its body cannot be read again.
func (l *load) request(n int64) error {
	path := fmt.Sprintf("/secrets/s%d", n%10)
	method, body := http.MethodGet, io.Reader(nil)
	if n%100 < 10 {
		method = http.MethodPut
		body = io.MultiReader(strings.NewReader(fmt.Sprintf(`{"type":"Text","value":{"text":"%s"}}`, encoded(fmt.Sprint(n)))))
	} else {
		path += "/value"
	}
	request, err := http.NewRequestWithContext(l.T.Context(), method, l.URL+producttest.Base+path, body)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+l.Admin)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := l.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %d %s", method, path, response.StatusCode, text)
	}
	return err
}

// TestRollingUpdate replaces the service's process under 500 requests a second, as a Deployment does: the new one starts
// first, and the old one is terminated once the new one is ready. No request may fail.
func TestRollingUpdate(t *testing.T) {
	settings := settingsOn(t, servers.Postgres(t))
	old := launch(t, settings, t.TempDir())
	b := newBalancer(t)
	b.set(old)
	l := &load{running: running{Running: &producttest.Running{T: t, URL: b.url, Logs: &producttest.Buffer{}}}, client: &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 64, MaxConnsPerHost: 64,
		// Less than the drain's delay: in HTTP/1.1 a request on an idle connection is lost while the server closes it.
		IdleConnTimeout: time.Second,
	}}}
	l.Admin = old.Login(producttest.AdminEmail, producttest.AdminPassword)
	for n := range 10 {
		must[wire.Secret](old.running, http.StatusCreated, l.Admin, "POST", "/secrets", write(fmt.Sprintf("s%d", n), "0"))
	}
	ended := make(chan struct{})
	var sending sync.WaitGroup
	sending.Go(func() { l.run(ended) })
	stop := sync.OnceFunc(func() { close(ended); sending.Wait() })
	defer stop()
	progress := func() {
		t.Helper()
		target := l.done.Load() + rate
		old.Wait("requests to continue", func() bool { return l.done.Load() >= target })
	}
	progress()
	for range 3 {
		next := launch(t, settings, t.TempDir())
		b.set(old, next)
		progress()
		old.terminate()
		b.set(next)
		old = next
		progress()
	}
	stop()
	if l.failed.Load() > 0 || b.lost.Load() > 0 {
		t.Errorf("%d of %d requests failed, %d connections were lost", l.failed.Load(), l.sent.Load(), b.lost.Load())
	}
	t.Logf("%d requests", l.done.Load())
}
