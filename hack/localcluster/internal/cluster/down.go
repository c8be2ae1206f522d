// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/itechsmart/operator/hack/localcluster/internal/node"
)

// Down stops everything and removes every trace: processes, pods, mounts, network, packet filter rules, cgroups, kernel
// settings and the cluster's state. Images are kept as a cache unless purge is set; built programs are kept. It does as
// much as it can even if a part fails, and returns what failed.
func (c *Cluster) Down(ctx context.Context, purge bool) error {
	var failed []error
	do := func(what string, err error) {
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", what, err))
		}
	}
	begin := time.Now()
	do("shim sockets", c.rememberSockets())
	do("stop node agents", c.stopAll(ctx, "kubelet", "kube-proxy"))
	podErr := c.removePods(ctx)
	do("stop components", c.stopAll(ctx, "kube-scheduler", "kube-controller-manager", "kube-apiserver", "containerd"))
	do("stop components", c.stopAll(ctx, "etcd"))
	do("shim sockets", c.rememberSockets())
	do("kill what is left", c.killRest(ctx))
	do("unmount", node.Unmount(c.l.State(), c.l.Cluster(), c.l.ContainerdRoot()))
	for _, socket := range c.knownSockets() {
		if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
			do("shim socket", err)
		}
	}
	do("network", node.RemoveNetwork())
	do("packet filter", node.RemoveRules())
	do("cgroups", c.removeCgroups(ctx))
	do("traces", node.RemoveTraces(c.l.Log("pods"), c.l.ID()))
	do("kernel settings", node.RestoreKernel(c.kernelRecord()))
	if len(failed) > 0 {
		// The state is kept: it records what the next attempt has to remove.
		return errors.Join(append(failed, podErr)...)
	}
	remove := []string{c.l.State(), c.l.Cluster(), c.l.Kubeconfig()}
	if purge {
		remove = append(remove, c.l.ContainerdRoot(), c.l.Images())
	}
	for _, path := range remove {
		do("state", os.RemoveAll(path))
	}
	if podErr != nil {
		fmt.Fprintf(c.out, "pods were killed, not stopped in order: %v\n", podErr)
	}
	if err := errors.Join(failed...); err != nil {
		return err
	}
	fmt.Fprintf(c.out, "down after %.1fs\n", time.Since(begin).Seconds())
	return nil
}

func (c *Cluster) socketsFile() string { return c.l.Run("shim-sockets") }

// rememberSockets records the sockets of the shims, which are outside our directories: once containerd has cleaned up
// after a killed shim, nothing else refers to its socket.
func (c *Cluster) rememberSockets() error {
	known := c.knownSockets()
	for _, socket := range node.ShimSockets(c.l.State("containerd")) {
		if !slices.Contains(known, socket) {
			known = append(known, socket)
		}
	}
	if len(known) == 0 {
		return nil
	}
	return os.WriteFile(c.socketsFile(), []byte(strings.Join(known, "\n")), 0o600)
}

func (c *Cluster) knownSockets() []string {
	b, err := os.ReadFile(c.socketsFile())
	if err != nil {
		return nil
	}
	return strings.Fields(string(b))
}

// stopAll stops components concurrently.
func (c *Cluster) stopAll(ctx context.Context, names ...string) error {
	errs := make([]error, len(names))
	var wait sync.WaitGroup
	for i, name := range names {
		p, err := c.find(name)
		if err != nil {
			return err
		}
		// Their last writes are removed next: no reason to wait long.
		wait.Go(func() { errs[i] = c.record(p).Stop(ctx, 2*time.Second) })
	}
	wait.Wait()
	return errors.Join(errs...)
}

// removePods makes containerd remove all pods, so that its image store has no trace of them. containerd is started for it
// if it does not run.
func (c *Cluster) removePods(ctx context.Context) error {
	if _, err := os.Stat(c.l.Config("containerd.toml")); err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	p, err := c.find("containerd")
	if err != nil {
		return err
	}
	if _, err := os.Stat(c.cgroups.ComponentProcs()); err != nil {
		if err := c.cgroups.Create(); err != nil {
			return err
		}
	}
	if _, err := c.bringUp(ctx, p); err != nil {
		return err
	}
	client, err := dialRuntime(c.l)
	if err != nil {
		return err
	}
	defer client.Close()
	return client.removePods(ctx)
}

// killRest kills every process in the cluster's cgroups: orphaned shims and containers.
func (c *Cluster) killRest(ctx context.Context) error {
	deadline := time.Now().Add(15 * time.Second)
	left, err := c.cgroups.Kill(func() bool {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(50 * time.Millisecond):
			return time.Now().Before(deadline)
		}
	})
	if err == nil && left > 0 {
		err = fmt.Errorf("%d processes do not end", left)
	}
	return err
}

// removeCgroups removes the cgroups; the kernel takes a moment to release one whose last process has exited.
func (c *Cluster) removeCgroups(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var last error
	if err := poll(ctx, func() bool { last = c.cgroups.Remove(); return last == nil }); err != nil {
		return last
	}
	return nil
}

// KillAll kills all components with SIGKILL, like a crash of everything.
func (c *Cluster) KillAll(ctx context.Context) error {
	var failed []error
	for _, p := range slices.Backward(c.parts) {
		failed = append(failed, c.record(p).Kill(ctx))
	}
	return errors.Join(failed...)
}
