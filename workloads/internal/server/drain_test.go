// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/itechsmart/operator/workloads/config"
)

// TestRollingUpdate replaces replicas one by one under load, as a Deployment does: a new one starts first, and an old one
// gets requests until the balancer has seen that it is not ready. No request may fail.
func TestRollingUpdate(t *testing.T) {
	var answered, writes atomic.Int64
	start := func() *running {
		o := options(&logs{})
		o.MetricsAddr, o.DrainDelay = "", 300*time.Millisecond
		s := New(o)
		mux := http.NewServeMux()
		mux.HandleFunc("POST /write", func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil || string(body) != "data" {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			time.Sleep(5 * time.Millisecond) // as long as a database: requests are in flight at every moment
			writes.Add(1)
		})
		s.Mount(Routes(mux))
		return run(t, s)
	}
	balancer := newBalancer(start(), start())
	ctx, cancel := context.WithCancel(t.Context())
	var clients, watcher sync.WaitGroup
	watcher.Go(func() { balancer.watch(ctx) })
	failures := make(chan error, 100)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	for range 16 {
		clients.Go(func() {
			for ctx.Err() == nil {
				if err := post(client, balancer.pick()+"/write"); err != nil {
					select {
					case failures <- err:
					default:
					}
				}
				answered.Add(1)
			}
		})
	}
	progress := func(n int64) {
		t.Helper()
		target := answered.Load() + n
		eventually(t, "requests continue", func() bool { return answered.Load() >= target })
	}
	progress(200)
	for _, old := range balancer.all() {
		balancer.add(start())
		progress(100)
		old.stop()
		if err := <-old.done; err != nil {
			t.Errorf("the old replica: %v", err)
		}
		balancer.remove(old)
		progress(100)
	}
	cancel()
	clients.Wait()
	watcher.Wait()
	close(failures)
	for err := range failures {
		t.Errorf("a request failed: %v", err)
	}
	if writes.Load() != answered.Load() {
		t.Errorf("%d requests, %d writes", answered.Load(), writes.Load())
	}
	t.Logf("%d requests, %d writes", answered.Load(), writes.Load())
}

func post(client *http.Client, url string) error {
	// A reader of unknown type, which the client cannot send again by itself.
	req, err := http.NewRequest(http.MethodPost, url, io.MultiReader(strings.NewReader("data")))
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}

// balancer sends requests to the replicas that were ready when last polled.
type balancer struct {
	mu       sync.Mutex
	replicas []*running
	ready    map[*running]bool
	turn     int
}

func newBalancer(replicas ...*running) *balancer {
	b := &balancer{ready: map[*running]bool{}}
	for _, r := range replicas {
		b.replicas = append(b.replicas, r)
		b.ready[r] = true
	}
	return b
}

func (b *balancer) all() []*running {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]*running(nil), b.replicas...)
}

func (b *balancer) add(r *running) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.replicas = append(b.replicas, r)
}

func (b *balancer) remove(r *running) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, known := range b.replicas {
		if known == r {
			b.replicas = append(b.replicas[:i], b.replicas[i+1:]...)
			return
		}
	}
}

func (b *balancer) pick() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range b.replicas {
		b.turn++
		if r := b.replicas[b.turn%len(b.replicas)]; b.ready[r] {
			return r.url
		}
	}
	return "http://127.0.0.1:1" // none is ready, which fails the test
}

// watch polls readiness every 50 ms: for that long a replica gets requests after it was no longer ready.
func (b *balancer) watch(ctx context.Context) {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	probe := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, r := range b.all() {
			resp, err := probe.Get(r.url + config.ReadyPath)
			ready := err == nil && resp.StatusCode == http.StatusOK
			if err == nil {
				resp.Body.Close()
			}
			b.mu.Lock()
			b.ready[r] = ready
			b.mu.Unlock()
		}
	}
}

func TestDrain(t *testing.T) {
	o := options(&logs{})
	o.DrainDelay = 200 * time.Millisecond
	s := New(o)
	entered, release := make(chan struct{}), make(chan struct{})
	s.Mount(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(entered)
			<-release
		}
	}))
	r := run(t, s)
	slow := make(chan int, 1)
	go func() {
		resp, err := http.Get(r.url + "/slow")
		if err != nil {
			slow <- 0
			return
		}
		resp.Body.Close()
		slow <- resp.StatusCode
	}()
	<-entered
	r.stop()
	<-s.Draining()
	g := fetch(t, http.MethodGet, r.url+config.ReadyPath, "")
	if g.status != http.StatusServiceUnavailable {
		t.Errorf("ready while it drains: %d", g.status)
	}
	late := fetch(t, http.MethodGet, r.url+"/late", "")
	if late.status != http.StatusOK {
		t.Errorf("a late request: %d", late.status)
	}
	eventually(t, "it accepts no more connections", func() bool {
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get(r.url + "/late")
		if err == nil {
			resp.Body.Close()
		}
		return err != nil
	})
	select {
	case err := <-r.done:
		t.Fatalf("it ended with a request in flight: %v", err)
	default:
	}
	close(release)
	if status := <-slow; status != http.StatusOK {
		t.Errorf("the request in flight: %d", status)
	}
	if err := <-r.done; err != nil {
		t.Error(err)
	}
}

func TestDrainTimeout(t *testing.T) {
	o := options(&logs{})
	o.DrainTimeout = 50 * time.Millisecond
	s := New(o)
	entered := make(chan struct{})
	s.Mount(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	}))
	r := run(t, s)
	go func() {
		resp, err := http.Get(r.url)
		if err == nil {
			resp.Body.Close()
		}
	}()
	<-entered
	r.stop()
	if err := <-r.done; err == nil || !strings.Contains(err.Error(), "requests were cut") {
		t.Errorf("a request that does not end: %v", err)
	}
}
