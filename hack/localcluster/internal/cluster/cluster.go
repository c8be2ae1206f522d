// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/itechsmart/operator/hack/localcluster/internal/layout"
	"github.com/itechsmart/operator/hack/localcluster/internal/node"
	"github.com/itechsmart/operator/hack/localcluster/internal/process"
)

// Cluster is the local cluster of one checkout.
type Cluster struct {
	l       layout.Layout
	out     io.Writer
	cgroups node.Cgroups
	parts   []component
	// kubeletStarted records that this call of Up started the kubelet.
	kubeletStarted bool
}

// New returns the cluster of a checkout; out receives the progress.
func New(l layout.Layout, out io.Writer) *Cluster {
	return &Cluster{l: l, out: out, cgroups: node.NewCgroups(l.ID()), parts: components(l)}
}

// Names returns the names of the components.
func (c *Cluster) Names() []string {
	names := make([]string, 0, len(c.parts))
	for _, p := range c.parts {
		names = append(names, p.name)
	}
	return names
}

func (c *Cluster) find(name string) (component, error) {
	i := slices.IndexFunc(c.parts, func(p component) bool { return p.name == name })
	if i < 0 {
		return component{}, fmt.Errorf("component %q is unknown: want one of %s", name, strings.Join(c.Names(), ", "))
	}
	return c.parts[i], nil
}

// Lock makes other calls for the same checkout wait until the returned function is called.
func (c *Cluster) Lock() (unlock func(), err error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("the local cluster needs root: it creates network interfaces, cgroups and mounts")
	}
	if err := os.MkdirAll(c.l.Local(), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(c.l.Local(), "localcluster.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}

func (c *Cluster) recordFile(p component) string { return c.l.Run(p.name + ".json") }

func (p component) argv() []string { return append([]string{p.path}, p.args...) }

// record returns the process of a component. One that was started but never recorded, because the caller was killed in
// between, is found by its command line among the processes of the components' cgroup.
func (c *Cluster) record(p component) process.Record {
	r := process.Load(c.recordFile(p))
	if r.Alive() {
		return r
	}
	b, err := os.ReadFile(c.cgroups.ComponentProcs())
	if err != nil {
		return r
	}
	want := strings.Join(p.argv(), "\x00") + "\x00"
	for _, field := range strings.Fields(string(b)) {
		cmdline, err := os.ReadFile(filepath.Join("/proc", field, "cmdline"))
		if err != nil || string(cmdline) != want {
			continue
		}
		var pid int
		if _, err := fmt.Sscan(field, &pid); err != nil {
			continue
		}
		if found, err := process.Identify(pid); err == nil {
			found.Args = p.argv()
			_ = found.Save(c.recordFile(p))
			return found
		}
	}
	return r
}

// start starts a component unless it runs, and reports whether it did.
func (c *Cluster) start(p component) (bool, error) {
	if c.record(p).Alive() {
		return false, nil
	}
	for _, port := range p.ports {
		listener, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			return false, fmt.Errorf("%s: port %d is in use by a process outside this cluster: %w", p.name, port, err)
		}
		listener.Close()
	}
	for _, dir := range []string{c.l.Log(), c.l.Run()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return false, err
		}
	}
	r, err := process.Start(process.Spec{
		Path: p.path, Args: p.argv(), Log: c.l.Log(p.name + ".log"), CgroupProcs: []string{c.cgroups.ComponentProcs()},
	})
	if err != nil {
		return false, fmt.Errorf("start %s: %w", p.name, err)
	}
	return true, r.Save(c.recordFile(p))
}

// waitHealthy waits until the component works; it fails at once if its process exits.
func (c *Cluster) waitHealthy(ctx context.Context, p component) error {
	var last error
	err := poll(ctx, func() bool {
		if !c.record(p).Alive() {
			return true
		}
		last = p.healthy(ctx, c.l)
		return last == nil
	})
	log := c.l.Log(p.name + ".log")
	if !c.record(p).Alive() {
		return fmt.Errorf("%s ended. The end of %s:\n%s", p.name, log, process.Tail(log, 12))
	}
	if err != nil {
		return fmt.Errorf("%s does not become healthy: %w. The end of %s:\n%s", p.name, errors.Join(err, last), log, process.Tail(log, 12))
	}
	return nil
}

// poll calls done until it returns true or the context ends, whose error it returns then.
func poll(ctx context.Context, done func() bool) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// Start restarts one component and waits until it works.
func (c *Cluster) Start(ctx context.Context, name string) error {
	p, err := c.find(name)
	if err != nil {
		return err
	}
	if _, err := os.Stat(c.l.Config("kubelet.yaml")); err != nil {
		return errors.New("there is no cluster: run `localcluster up` first")
	}
	if _, err := c.start(p); err != nil {
		return err
	}
	return c.waitHealthy(ctx, p)
}

// Stop stops one component: SIGTERM, and SIGKILL after ten seconds.
func (c *Cluster) Stop(ctx context.Context, name string) error {
	p, err := c.find(name)
	if err != nil {
		return err
	}
	return c.record(p).Stop(ctx, 10*time.Second)
}

// Kill kills one component with SIGKILL, like a crash.
func (c *Cluster) Kill(ctx context.Context, name string) error {
	p, err := c.find(name)
	if err != nil {
		return err
	}
	r := c.record(p)
	if !r.Alive() {
		return fmt.Errorf("%s is not running", name)
	}
	return r.Kill(ctx)
}

// Status writes a table of the components, and reports whether all of them work.
func (c *Cluster) Status(ctx context.Context, out io.Writer) (bool, error) {
	all := true
	fmt.Fprintf(out, "%-24s %-8s %-10s %s\n", "COMPONENT", "PID", "STATE", "URL")
	for _, p := range c.parts {
		pid, state := "-", "down"
		if r := c.record(p); r.Alive() {
			pid, state = fmt.Sprint(r.PID), "up"
			if err := p.healthy(ctx, c.l); err != nil {
				state = "unhealthy"
			}
		}
		all = all && state == "up"
		if _, err := fmt.Fprintf(out, "%-24s %-8s %-10s %s\n", p.name, pid, state, p.url); err != nil {
			return all, err
		}
	}
	return all, nil
}
