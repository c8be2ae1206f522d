// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"sigs.k8s.io/controller-runtime/pkg/client"

	vaultv1alpha1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	vault "github.com/itechsmart/operator/workloads/vault/client"
)

// TestRollingUpdate sends 500 requests a second while every Pod of Vault is replaced, twice. None may fail.
func TestRollingUpdate(t *testing.T) {
	c := connect(t)
	c.unlimited()
	c.changeVault(func(s *vaultv1alpha1.VaultServiceSpec) { s.Replicas = 2 })
	token, address := c.administrator(), c.vaultURL()+"/api/v1/me"
	transport := &http.Transport{MaxIdleConnsPerHost: 64, MaxConnsPerHost: 64}
	defer transport.CloseIdleConnections()
	web := &http.Client{Transport: transport, Timeout: 30 * time.Second}
	ask := func() error {
		request, err := http.NewRequestWithContext(c.ctx, http.MethodGet, address, http.NoBody)
		if err != nil {
			return err
		}
		request.Header.Set("Authorization", "Bearer "+token)
		response, err := web.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err == nil && response.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s, request %s: %s", response.Status, response.Header.Get("X-Request-Id"), body)
		}
		return err
	}
	stop := make(chan struct{})
	var sent, failed atomic.Int64
	var inFlight, sender sync.WaitGroup
	sender.Go(func() {
		// 500 a second, without waiting for responses; late requests are sent at once.
		for due := time.Now(); ; due = due.Add(2 * time.Millisecond) {
			select {
			case <-stop:
				return
			case <-time.After(time.Until(due)):
			}
			sent.Add(1)
			inFlight.Go(func() {
				if err := ask(); err != nil && failed.Add(1) <= 5 {
					t.Errorf("request: %v", err)
				}
			})
		}
	})
	start := time.Now()
	for _, level := range []string{"warn", "info"} {
		before := c.podNames(vaultPods)
		c.changeVault(func(s *vaultv1alpha1.VaultServiceSpec) { s.LogLevel = level })
		c.Eventually(func() []string { return c.podNames(vaultPods) }, patience, often).Should(And(HaveLen(2), Not(ContainElements(before[0])), Not(ContainElements(before[1]))))
	}
	took := time.Since(start)
	close(stop)
	sender.Wait()
	inFlight.Wait()
	t.Logf("%d requests in %.1f s while four Pods were replaced, %d failed", sent.Load(), took.Seconds(), failed.Load())
	c.Expect(failed.Load()).To(BeZero())
	c.Expect(float64(sent.Load())/took.Seconds()).To(BeNumerically(">", 490), "the load was too low")
}

// acknowledged records the value that each version was acknowledged with.
type acknowledged struct {
	mu       sync.Mutex
	versions map[string]map[int64]string
	attempts int64
}

// write adds one version after another to a path until ctx ends, and records those acknowledged.
func (a *acknowledged) write(ctx context.Context, v vault.Client, path string) {
	for n := 0; ctx.Err() == nil; n++ {
		value := fmt.Sprintf("%s number %d", path, n)
		s, err := v.Put(ctx, path, text(value))
		a.mu.Lock()
		a.attempts++
		if err == nil {
			a.versions[path][s.Version] = value
		}
		a.mu.Unlock()
		if err != nil {
			select { // it is restarting
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
}

func (a *acknowledged) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, versions := range a.versions {
		n += len(versions)
	}
	return n
}

// TestVaultKills sends SIGKILL to Vault and to its database while versions are written. Every acknowledged one must open.
func TestVaultKills(t *testing.T) {
	c := connect(t)
	c.unlimited()
	v := c.vault()
	ctx, stop := context.WithCancel(c.ctx)
	defer stop()
	acks := &acknowledged{versions: map[string]map[int64]string{}}
	var writers sync.WaitGroup
	for n := range 4 {
		path := fmt.Sprintf("e2e/kills-%d", n)
		_ = v.Delete(c.ctx, path, true) // an earlier run may have left it
		_, err := v.Create(c.ctx, path, text("first"))
		c.Expect(err).NotTo(HaveOccurred())
		acks.versions[path] = map[int64]string{1: "first"}
		writers.Go(func() { acks.write(ctx, v, path) })
	}
	more := func() {
		t.Helper()
		before := acks.count()
		c.Eventually(acks.count, patience, often).Should(BeNumerically(">", before+20))
	}
	more()
	for _, victim := range []struct {
		name   string
		labels map[string]string
	}{
		{"vault", vaultPods},
		{"postgresql", map[string]string{"app.kubernetes.io/name": "postgresql", "app.kubernetes.io/instance": "main"}},
		{"vault again", vaultPods},
	} {
		start := time.Now()
		c.crash(namespace, victim.labels)
		more()
		t.Logf("kill -9 of %s: writes are acknowledged again after %.1f s", victim.name, time.Since(start).Seconds())
	}
	stop()
	writers.Wait()
	opened := 0
	for path, versions := range acks.versions {
		for version, want := range versions {
			read, err := v.Read(c.ctx, path, version)
			c.Expect(err).NotTo(HaveOccurred(), "%s@%d", path, version)
			c.Expect(string(read.Value[vault.FieldText])).To(Equal(want), "%s@%d", path, version)
			opened++
		}
		// A version that was not acknowledged is complete, or missing.
		s, err := v.Secret(c.ctx, path)
		c.Expect(err).NotTo(HaveOccurred())
		for version := range s.Version {
			_, err := v.Read(c.ctx, path, version+1)
			c.Expect(err).NotTo(HaveOccurred(), "%s@%d", path, version+1)
		}
		c.Expect(v.Delete(c.ctx, path, true)).To(Succeed())
	}
	t.Logf("%d of %d writes were acknowledged, and all of them open", opened, acks.attempts)
	c.platformReady()
}

// withoutAPIServer checks what Vault still does then: a value is written, and read.
func (c *cluster) withoutAPIServer(v vault.Client, path string, n int) int64 {
	c.t.Helper()
	want := fmt.Sprint("value ", n)
	s, err := v.Put(c.ctx, path, text(want))
	c.Expect(err).NotTo(HaveOccurred(), "Vault writes without an API server")
	read, err := v.Read(c.ctx, path, 0)
	c.Expect(err).NotTo(HaveOccurred(), "Vault reads without an API server")
	c.Expect(string(read.Value[vault.FieldText])).To(Equal(want))
	return s.Version
}

// noted waits until the resource of a path reports a version.
func (c *cluster) noted(path string, version int64) {
	c.t.Helper()
	c.Eventually(func(g Gomega) {
		var s vaultv1alpha1.Secret
		g.Expect(c.client.Get(c.ctx, client.ObjectKey{Namespace: namespace, Name: vaultv1alpha1.NameForPath(path)}, &s)).To(Succeed())
		g.Expect(s.Status.LatestVersion).To(Equal(version))
	}, patience, often).Should(Succeed())
}
