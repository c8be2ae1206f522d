// SPDX-License-Identifier: Apache-2.0

// Package node prepares the machine for the cluster's node and removes every trace again: cgroups, network, packet filter
// rules, mounts and kernel settings. It changes nothing that the cluster did not create.
package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// cgroupMount is the mount point of the hierarchies.
const cgroupMount = "/sys/fs/cgroup"

// Cgroups is the cgroup of the cluster, with the same name in every hierarchy (version 1) or in the only one (version 2).
type Cgroups struct{ name string }

// NewCgroups returns the cgroup named name below the root of each hierarchy.
func NewCgroups(name string) Cgroups { return Cgroups{name: name} }

// Root returns the path below which the kubelet puts all pods.
func (c Cgroups) Root() string { return "/" + c.name }

// hierarchies returns the mount points of the cgroup hierarchies, each once (cpu and cpuacct may be links to the same).
func hierarchies() ([]string, error) {
	if _, err := os.Stat(filepath.Join(cgroupMount, "cgroup.controllers")); err == nil {
		return []string{cgroupMount}, nil
	}
	entries, err := os.ReadDir(cgroupMount)
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, e := range entries {
		dir, err := filepath.EvalSymlinks(filepath.Join(cgroupMount, e.Name()))
		if err != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err == nil && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	if len(dirs) == 0 {
		return nil, fmt.Errorf("%s: no cgroup hierarchy is mounted", cgroupMount)
	}
	return dirs, nil
}

// Create creates the cgroup in every hierarchy, and below it the one of the components.
func (c Cgroups) Create() error {
	dirs, err := hierarchies()
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		if err := os.MkdirAll(filepath.Join(dir, c.name), 0o755); err != nil {
			return err
		}
		if err := inheritCpuset(dir, filepath.Join(dir, c.name)); err != nil {
			return err
		}
	}
	return os.MkdirAll(filepath.Dir(c.ComponentProcs()), 0o755)
}

// inheritCpuset gives a new cpuset the processors and memory nodes of its parent: it starts without any, and then no
// process can run in it.
func inheritCpuset(parent, child string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		b, err := os.ReadFile(filepath.Join(parent, file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(child, file), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// ComponentProcs returns the file that moves a process into the cgroup of the components. It has no limits: it serves to
// find every process that descends from a component (above all containerd's shims).
func (c Cgroups) ComponentProcs() string {
	for _, hierarchy := range []string{"pids", "systemd"} {
		dir := filepath.Join(cgroupMount, hierarchy)
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err == nil {
			return filepath.Join(dir, c.name, "components", "cgroup.procs")
		}
	}
	return filepath.Join(cgroupMount, c.name, "components", "cgroup.procs")
}

// Processes returns the ids of all processes in the cluster's cgroups.
func (c Cgroups) Processes() ([]int, error) {
	dirs, err := hierarchies()
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, dir := range dirs {
		err := filepath.WalkDir(filepath.Join(dir, c.name), func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || d.IsDir() || d.Name() != "cgroup.procs" {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				// The cgroup has just been removed, or is a threaded one (version 2).
				return nil
			}
			for _, field := range strings.Fields(string(b)) {
				if pid, err := strconv.Atoi(field); err == nil && pid > 0 && !slices.Contains(pids, pid) {
					pids = append(pids, pid)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return pids, nil
}

// Kill kills all processes in the cluster's cgroups, repeatedly for those forked meanwhile. It returns the number of
// processes left.
func (c Cgroups) Kill(wait func() bool) (int, error) {
	for {
		pids, err := c.Processes()
		if err != nil || len(pids) == 0 {
			return len(pids), err
		}
		for _, pid := range pids {
			if pid != os.Getpid() {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		if !wait() {
			return len(pids), nil
		}
	}
}

// Remove removes the cluster's cgroups, deepest first. They must be empty of processes.
func (c Cgroups) Remove() error {
	dirs, err := hierarchies()
	if err != nil {
		return err
	}
	var failed []error
	for _, dir := range dirs {
		var groups []string
		_ = filepath.WalkDir(filepath.Join(dir, c.name), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				groups = append(groups, path)
			}
			return nil
		})
		for _, group := range slices.Backward(groups) {
			if err := os.Remove(group); err != nil && !errors.Is(err, fs.ErrNotExist) {
				failed = append(failed, err)
			}
		}
	}
	return errors.Join(failed...)
}
