// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
)

// guardScript reads process groups from its standard input, one a line; the last one counts, 0 is none. At the
// end of the input, when the test binary has ended in any way, it kills that group and removes the data.
const guardScript = `
group=0
while read -r line; do group=$line; done
[ "$group" = 0 ] || kill -9 "-$group"
# Dying children may still write.
for try in 1 2 3 4 5; do rm -rf -- "$1" && break; sleep 1; done
`

type guard struct {
	cmd  *exec.Cmd
	mu   sync.Mutex
	pipe *os.File
}

// newGuard guards the data directory of a server.
func newGuard(data string) (*guard, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close() //nolint:errcheck // the child holds its own descriptor
	cmd := exec.Command("sh", "-c", guardScript, "guard", data)
	cmd.Stdin = read
	// A terminal's interrupt must not reach it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		_ = write.Close()
		return nil, fmt.Errorf("start the guard: %w", err)
	}
	return &guard{cmd: cmd, pipe: write}, nil
}

// watch sets the group to kill.
func (g *guard) watch(group int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pipe != nil {
		_, _ = fmt.Fprintln(g.pipe, group)
	}
}

// close makes the guard clean up and waits for it.
func (g *guard) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pipe == nil {
		return
	}
	_ = g.pipe.Close()
	g.pipe = nil
	_ = g.cmd.Wait()
}
