// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// MountsBelow returns the mount points at or below the directories, from the content of /proc/self/mountinfo, in the
// order in which they can be unmounted: the last mounted first.
func MountsBelow(mountinfo string, dirs ...string) []string {
	// The kernel writes space, tab, newline and backslash as octal.
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var points []string
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		point := unescape.Replace(fields[4])
		if slices.ContainsFunc(dirs, func(dir string) bool { return point == dir || strings.HasPrefix(point, dir+"/") }) {
			points = append(points, point)
		}
	}
	slices.Reverse(points)
	return points
}

// Unmount unmounts everything at or below the directories.
func Unmount(dirs ...string) error {
	// A mount point can be mounted over: repeat until none is left.
	for range 3 {
		info, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			return err
		}
		points := MountsBelow(string(info), dirs...)
		if len(points) == 0 {
			return nil
		}
		for _, point := range points {
			if err := syscall.Unmount(point, syscall.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOENT) {
				return fmt.Errorf("unmount %s: %w", point, err)
			}
		}
	}
	return errors.New("mounts remain below " + strings.Join(dirs, ", "))
}

// ShimSockets returns the sockets of the container shims whose bundles are below containerd's state directory: containerd
// keeps them in a directory of its own, not below the state.
func ShimSockets(containerdState string) []string {
	var sockets []string
	files, _ := filepath.Glob(filepath.Join(containerdState, "io.containerd.runtime.v2.task", "*", "*", "address"))
	for _, file := range files {
		if b, err := os.ReadFile(file); err == nil {
			if path, ok := strings.CutPrefix(strings.TrimSpace(string(b)), "unix://"); ok && filepath.IsAbs(path) && !slices.Contains(sockets, path) {
				sockets = append(sockets, path)
			}
		}
	}
	return sockets
}

// devicePlugins is the directory where every kubelet listens for device plug-ins, independent of its root directory.
const devicePlugins = "/var/lib/kubelet/device-plugins"

// RemoveTraces removes what the kubelet and the CNI library leave in fixed directories: links to the logs of our pods
// below /var/log/containers, results of our network below /var/lib/cni, device plug-in files; and directories that are
// empty afterwards.
func RemoveTraces(podLogs, network string) error {
	var failed []error
	links, _ := filepath.Glob("/var/log/containers/*.log")
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && strings.HasPrefix(to, podLogs+"/") {
			failed = append(failed, os.Remove(link))
		}
	}
	results, _ := filepath.Glob("/var/lib/cni/results/" + network + "-*")
	for _, result := range results {
		failed = append(failed, os.Remove(result))
	}
	for _, file := range []string{"kubelet.sock", "kubelet_internal_checkpoint"} {
		if err := os.Remove(filepath.Join(devicePlugins, file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = append(failed, err)
		}
	}
	for _, dir := range []string{devicePlugins, filepath.Dir(devicePlugins), "/var/log/containers", "/var/lib/cni/results", "/var/lib/cni", "/run/containerd/s", "/run/containerd"} {
		// Fails for one that others use, as intended.
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, syscall.EEXIST) {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}
