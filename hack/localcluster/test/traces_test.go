// SPDX-License-Identifier: Apache-2.0

package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// traces lists what a cluster creates on a machine: processes, mounts, interfaces, routes, packet filter rules, cgroups,
// kernel settings and files outside the checkout.
func (s suite) traces() []string {
	var found []string
	add := func(kind, what string) { found = append(found, kind+" "+what) }
	processes, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range processes {
		b, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		line := strings.ReplaceAll(string(b), "\x00", " ")
		if strings.Contains(line, s.l.State()) || strings.Contains(line, s.l.Cluster()) || strings.HasPrefix(line, "/web ") || strings.HasPrefix(line, "/addons ") || strings.HasPrefix(line, "/pause ") {
			add("process", line)
		}
	}
	if b, err := os.ReadFile("/proc/self/mountinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if fields := strings.Fields(line); len(fields) > 4 && !strings.HasPrefix(fields[4], "/tmp/") {
				add("mount", fields[4])
			}
		}
	}
	for _, pattern := range []string{
		"/sys/class/net/*", "/sys/fs/cgroup/*/itechsmart-*", "/sys/fs/cgroup/*/kubepods*", "/sys/fs/cgroup/itechsmart-*", "/run/netns/*",
		"/run/containerd", "/run/containerd/s/*", "/run/itechsmart-*", "/var/lib/cni/*", "/var/lib/kubelet", "/var/log/containers", "/var/log/pods",
		"/etc/cni", "/opt/containerd", "/opt/cni", "/var/lib/containerd/*", "/usr/libexec/kubernetes", "/var/run/kubernetes",
		s.l.Cluster(), s.l.Kubeconfig(),
	} {
		paths, _ := filepath.Glob(pattern)
		for _, path := range paths {
			add("file", path)
		}
	}
	for _, key := range []string{
		"net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables", "net/ipv4/conf/all/route_localnet", "vm/overcommit_memory", "vm/panic_on_oom",
		"kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes", "net/netfilter/nf_conntrack_max",
		"net/netfilter/nf_conntrack_tcp_timeout_established", "net/netfilter/nf_conntrack_tcp_timeout_close_wait",
	} {
		b, _ := os.ReadFile("/proc/sys/" + key)
		add("kernel", key+"="+strings.TrimSpace(string(b)))
	}
	for _, command := range [][]string{{"iptables-save"}, {"ip6tables-save"}, {"ip", "route"}} {
		b, err := exec.Command(command[0], command[1:]...).Output()
		if err != nil {
			s.Fatalf("%s: %v", command[0], err)
		}
		for line := range strings.Lines(string(b)) {
			// Policies of built-in chains have counters, and tables appear empty once they were read.
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") && line != "COMMIT" && !strings.HasPrefix(line, "*") && !strings.Contains(line, " ACCEPT [") {
				add(command[0], line)
			}
		}
	}
	slices.Sort(found)
	return found
}

// compare fails for everything that is new, and for everything that is gone.
func (s suite) compare(what string, before []string) {
	s.Helper()
	after := s.traces()
	for _, trace := range after {
		if !slices.Contains(before, trace) {
			s.Errorf("%s leaves behind: %s", what, trace)
		}
	}
	for _, trace := range before {
		if !slices.Contains(after, trace) {
			s.Errorf("%s takes away: %s", what, trace)
		}
	}
}
