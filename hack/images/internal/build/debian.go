// SPDX-License-Identifier: Apache-2.0

package build

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path"
	"strings"
)

// debian is a root file system of Debian packages. They are unpacked but not configured: the results of their scripts
// (users, alternatives, generated keys) differ between builds, and the few that a server needs are added explicitly.
type debian struct {
	Packages []string // their dependencies are included
	Drop     []string // path prefixes, or patterns if they contain a *, besides those of dropAlways
	Users    []user
}

// user is an entry of /etc/passwd, its group of the same name and number.
type user struct {
	Name string
	ID   int
	Home string
}

// suite is the Debian release, whose glibc our own programs also link.
const suite = "bookworm"

// dropAlways is in no image: documentation, translations, files only for the package manager.
var dropAlways = []string{
	"dev/", "proc/", "sys/", "run/", "tmp/", "boot/", "usr/share/doc/", "usr/share/man/", "usr/share/info/", "usr/share/locale/",
	"usr/share/lintian/", "usr/share/bug/", "usr/share/doc-base/", "usr/share/i18n/", "usr/share/perl5/Debconf/", "usr/share/debconf/",
	"usr/lib/systemd/", "lib/systemd/", "etc/systemd/", "etc/init.d/", "etc/logrotate.d/", "etc/cron", "etc/apt/", "etc/dpkg/",
	"var/lib/dpkg/", "var/lib/apt/", "var/cache/", "var/log/", "usr/share/bash-completion/", "usr/share/zsh/", "usr/share/pixmaps/",
	"usr/share/applications/", "usr/share/icons/", "usr/lib/x86_64-linux-gnu/gconv/", "usr/bin/dpkg*", "usr/lib/dpkg/", "usr/share/dpkg/",
	"var/lib/systemd/", "usr/share/apport/", "etc/hostname", "etc/resolv.conf", "etc/hosts",
}

func (d debian) dropped(name string) bool {
	for _, list := range [][]string{dropAlways, d.Drop} {
		for _, pattern := range list {
			if strings.HasPrefix(name+"/", pattern) || strings.HasPrefix(name, pattern) {
				return true
			}
			if strings.Contains(pattern, "*") {
				if ok, _ := path.Match(pattern, name); ok {
					return true
				}
			}
		}
	}
	return false
}

// write puts the root file system into a layer.
func (d debian) write(ctx context.Context, env *Env, w *layerWriter) error {
	cmd := exec.CommandContext(ctx, "mmdebstrap", "--variant=extract", "--include="+strings.Join(d.Packages, ","), "--format=tar", suite, "-")
	cmd.Env = append(cmd.Environ(), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", epoch.Unix()), "LC_ALL=C.UTF-8", "TMPDIR="+env.Temp)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("mmdebstrap (apt-get install mmdebstrap): %w", err)
	}
	err = d.filter(bufio.NewReaderSize(stdout, 1<<20), w)
	if err != nil {
		_ = cmd.Process.Kill()
	}
	if waitErr := cmd.Wait(); waitErr != nil && err == nil {
		err = fmt.Errorf("mmdebstrap: %w:\n%s", waitErr, tail(stderr.String(), 15))
	}
	if err != nil {
		return err
	}
	return d.accounts(w)
}

// filter copies the entries of a root file system that an image needs. mmdebstrap has sorted them.
func (d debian) filter(in io.Reader, w *layerWriter) error {
	reader := tar.NewReader(in)
	gone := map[string]bool{}
	for {
		h, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("root file system: %w", err)
		}
		name := clean(h.Name)
		if d.dropped(name) {
			gone[name] = true
			continue
		}
		switch h.Typeflag {
		case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
			continue
		case tar.TypeLink:
			if gone[clean(h.Linkname)] {
				return fmt.Errorf("%s is a hard link of %s, which is dropped", name, h.Linkname)
			}
		case tar.TypeReg:
			// Nothing needs set-user-id programs, and none of these users could use them.
			h.Mode &^= 0o6000
		}
		if err := w.entry(*h, reader); err != nil {
			return err
		}
	}
}

// accounts adds the users, the empty directories of every image, and names.
func (d debian) accounts(w *layerWriter) error {
	passwd, group := "root:x:0:0:root:/root:/bin/sh\n", "root:x:0:\n"
	for _, u := range append(d.Users, user{"nobody", 65534, "/nonexistent"}) {
		passwd += fmt.Sprintf("%s:x:%d:%d:%s:%s:/bin/sh\n", u.Name, u.ID, u.ID, u.Name, u.Home)
		group += fmt.Sprintf("%s:x:%d:\n", u.Name, u.ID)
	}
	return errors.Join(
		w.bytes("etc/passwd", 0o644, []byte(passwd)),
		w.bytes("etc/group", 0o644, []byte(group)),
		w.bytes("etc/hosts", 0o644, []byte("127.0.0.1 localhost\n::1 localhost\n")),
		w.bytes("etc/nsswitch.conf", 0o644, []byte("passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n")),
		w.dir("tmp", 0o1777, 0), w.dir("var/tmp", 0o1777, 0), w.dir("run", 0o1777, 0), w.dir("proc", 0o755, 0), w.dir("sys", 0o755, 0), w.dir("dev", 0o755, 0),
	)
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
