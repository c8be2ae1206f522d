// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
)

// packages are the Debian packages of the node, each with a file whose presence shows that it is installed.
var packages = []struct{ name, file string }{
	{"containerd", "/usr/bin/containerd"},
	{"runc", "/usr/sbin/runc"},
	{"containernetworking-plugins", "/usr/lib/cni/bridge"},
	{"iptables", "/usr/sbin/iptables"},
	{"conntrack", "/usr/sbin/conntrack"},
	{"socat", "/usr/bin/socat"},
	{"ipset", "/usr/sbin/ipset"},
}

// policyFile keeps packages from starting their services while it exists and exits with 101.
const policyFile = "/usr/sbin/policy-rc.d"

// MissingPackages returns the Debian packages that are not installed.
func MissingPackages() []string {
	var missing []string
	for _, p := range packages {
		if _, err := os.Stat(p.file); err != nil {
			missing = append(missing, p.name)
		}
	}
	return missing
}

// Packages installs the missing Debian packages without starting any service.
func Packages(ctx context.Context, out io.Writer) error {
	missing := MissingPackages()
	if len(missing) == 0 {
		fmt.Fprintf(out, "%-13s up to date\n", "packages")
		return nil
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("packages %s are missing: install them, or run as root", strings.Join(missing, ", "))
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("packages %s are missing, and there is no apt-get to install them", strings.Join(missing, ", "))
	}
	if _, err := os.Stat(policyFile); errors.Is(err, fs.ErrNotExist) {
		if err := os.WriteFile(policyFile, []byte("#!/bin/sh\nexit 101\n"), 0o755); err != nil {
			return err
		}
		defer os.Remove(policyFile)
	}
	for _, args := range [][]string{
		{"update", "-q"},
		append([]string{"install", "-y", "-q", "--no-install-recommends"}, missing...),
	} {
		cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-o", "DPkg::Lock::Timeout=300"}, args...)...)
		cmd.Stdout, cmd.Stderr = out, out
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("apt-get %s: %w", args[0], err)
		}
	}
	if missing := MissingPackages(); len(missing) > 0 {
		return fmt.Errorf("packages %s are installed but their programs are not in the expected place", strings.Join(missing, ", "))
	}
	return nil
}
