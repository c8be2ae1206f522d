// SPDX-License-Identifier: Apache-2.0

// Package servers runs real backing servers for tests, natively, on free ports
// of 127.0.0.1 with data under .local/test/.
//
// A test that needs a server shares one per test binary:
//
//	func TestMain(m *testing.M) { servers.Main(m) }
//
//	func TestReal(t *testing.T) {
//		admin, err := kafka.New(servers.Kafka(t))
//
// A test that kills its server starts its own:
//
//	s := servers.StartKafka(t) // stopped when the test ends
//	s.Kill()
//	s.Restart(t)               // same port, same data
//
// The programs are laid by `make servers` (MinIO by hack/tools/minio.sh); without them the test fails,
// or skips when ITECHSMART_SKIP_SERVERS=1. Nothing outlives the test binary,
// even one that was killed: a guard process watches it through a pipe.
package servers

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/itechsmart/operator/internal/backend"
)

const (
	startTimeout = 3 * time.Minute
	stopTimeout  = 15 * time.Second
	user         = "itechsmart"
	// database exists on the servers that have databases.
	database = "itechsmart"
)

// Server is one running server.
type Server struct {
	// Binding reaches it; the address survives Kill and Restart.
	Binding backend.Binding

	kind kind
	data string
	port int

	mu    sync.Mutex
	cmd   *exec.Cmd
	exit  chan struct{} // closed when cmd has ended
	guard *guard
}

// start creates a data directory and runs a new server, on another port if the first was taken in the meantime.
func start(k kind) (*Server, error) {
	root, err := checkout()
	if err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		s, err := startOnce(k, root)
		if err == nil || attempt == 3 || !errors.Is(err, errEnded) {
			return s, err
		}
	}
}

func startOnce(k kind, root string) (*Server, error) {
	base := filepath.Join(root, ".local", "test")
	if err := os.MkdirAll(base, 0o755); err != nil {
		return nil, err
	}
	data, err := os.MkdirTemp(base, k.name+"-")
	if err != nil {
		return nil, err
	}
	// Servers that insist on their own user need access.
	if err := os.Chmod(data, 0o755); err != nil {
		return nil, err
	}
	port, err := freePorts(5)
	if err != nil {
		return nil, err
	}
	s := &Server{kind: k, data: data, port: port}
	s.Binding = k.binding(port, rand.Text())
	if s.guard, err = newGuard(data); err != nil {
		return nil, err
	}
	if err := s.run(root); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

var errEnded = errors.New("the server ended while it started")

// run starts the program and waits until it responds.
func (s *Server) run(root string) error {
	cmd, err := s.kind.serve(root, filepath.Join(s.data, "data"), s.port)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // the child holds its own descriptor
	cmd.Env = append(os.Environ(), s.kind.env(s.Binding)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", s.kind.name, err)
	}
	s.guard.watch(cmd.Process.Pid)
	exit := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exit) }()
	s.mu.Lock()
	s.cmd, s.exit = cmd, exit
	s.mu.Unlock()

	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		probe, done := context.WithTimeout(ctx, 5*time.Second)
		err := s.kind.ping(probe, s.Binding)
		done()
		if err == nil {
			return nil
		}
		select {
		case <-exit:
			return fmt.Errorf("%s: %w: %s", s.kind.name, errEnded, s.logTail())
		case <-ctx.Done():
			return fmt.Errorf("%s does not respond after %s: %w; its log ends: %s", s.kind.name, startTimeout, err, s.logTail())
		case <-time.After(50 * time.Millisecond): // the polling interval
		}
	}
}

// Kill ends the server and its children with SIGKILL, like a crash, and returns once it has exited.
func (s *Server) Kill() { s.signal(syscall.SIGKILL) }

// Stop shuts the server down and keeps its data; Restart starts it again.
func (s *Server) Stop() { s.signal(s.kind.stop) }

// Restart runs the server again on the same port and data after Kill or Stop, and returns once it responds.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	root, err := checkout()
	if err == nil {
		s.Stop()
		err = s.run(root)
	}
	if err != nil {
		t.Fatalf("restart: %v", err)
	}
}

// Close stops the server and removes everything it wrote.
func (s *Server) Close() {
	s.Stop()
	s.guard.close()
}

// signal sends sig (SIGKILL to the whole process group) and waits for the end.
func (s *Server) signal(sig syscall.Signal) {
	s.mu.Lock()
	cmd, exit := s.cmd, s.exit
	s.cmd = nil
	s.mu.Unlock()
	if cmd == nil {
		return
	}
	group := -cmd.Process.Pid
	if sig != syscall.SIGKILL {
		// Only to the leader, which passes the signal on.
		_ = cmd.Process.Signal(sig)
		select {
		case <-exit:
		case <-time.After(stopTimeout):
		}
	}
	_ = syscall.Kill(group, syscall.SIGKILL)
	<-exit
	// Orphans of the group are exiting: wait until the last is gone.
	for deadline := time.Now().Add(stopTimeout); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if errors.Is(syscall.Kill(group, 0), syscall.ESRCH) {
			break
		}
	}
	s.guard.watch(0)
}

func (s *Server) logFile() string { return filepath.Join(s.data, "log") }

// logTail returns the end of the server's log, without credentials.
func (s *Server) logTail() string {
	text, err := os.ReadFile(s.logFile())
	if err != nil {
		return err.Error()
	}
	if len(text) > 2000 {
		text = text[len(text)-2000:]
	}
	return s.Binding.Redact(string(text))
}

// FreeAddress returns a loopback address for a program that a test starts.
func FreeAddress(t testing.TB) string {
	t.Helper()
	port, err := freePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// freePorts finds n consecutive free ports and returns the first. They are below the range that the kernel uses
// for outgoing connections.
func freePorts(n int) (int, error) {
	var seed [2]byte
	for range 100 {
		if _, err := rand.Read(seed[:]); err != nil {
			return 0, err
		}
		base := 15000 + int(seed[0])<<8%16384 + int(seed[1])&^7
		if portsFree(base, n) {
			return base, nil
		}
	}
	return 0, errors.New("found no free ports")
}

func portsFree(base, n int) bool {
	for port := base; port < base+n; port++ {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			return false
		}
		_ = l.Close()
	}
	return true
}
