// SPDX-License-Identifier: Apache-2.0

package service

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/product"
	"github.com/itechsmart/operator/workloads/internal/product/producttest"
)

// asService makes this test binary run the service, so that a test can kill a real process: its value is the directory of
// the configuration and of the spill.
const asService = "VAULT_TEST_AS_SERVICE"

// serve is the service's main, with cheap password hashes and free ports.
func serve(dir string) int {
	settings, unknown, err := config.Load(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	p := &product.Process{
		Product: Product(),
		Config:  settings, Unknown: unknown, Addr: "127.0.0.1:0", MetricsAddr: "127.0.0.1:0", SpillDir: filepath.Join(dir, "audit"), Lines: io.Discard,
		HashCost: 4, DrainDelay: 3 * time.Second, Log: slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Listening: func(address, _ string) { fmt.Println(address) },
	}
	if err := p.Run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// child is a service in a process of its own.
type child struct {
	*running
	dir    string
	cmd    *exec.Cmd
	exited chan struct{}
	err    error // of the process, once exited is closed
}

// launch runs a service that stores its spill in dir, and returns when it is ready.
func launch(t testing.TB, settings *config.Service, dir string) *child {
	t.Helper()
	data, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, config.FileName), data, 0o600); err != nil {
		t.Fatal(err)
	}
	c := &child{
		running: &running{
			Running: &producttest.Running{T: t, Settings: settings, Logs: &producttest.Buffer{}}, binding: backend.ParseBinding(settings.Database.Binding),
		},
		dir: dir, exited: make(chan struct{}),
	}
	c.cmd = exec.Command(os.Args[0])
	c.cmd.Env = append(os.Environ(), asService+"="+dir)
	c.cmd.Stderr = c.Logs
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	address, err := bufio.NewReader(out).ReadString('\n')
	go func() {
		c.err = c.cmd.Wait()
		close(c.exited)
	}()
	t.Cleanup(c.kill)
	if err != nil {
		t.Fatalf("the service did not start: %v\n%s", err, c.Logs)
	}
	c.URL = "http://" + strings.TrimSpace(address)
	c.Wait("ready", c.Ready)
	return c
}

// kill ends the process like a crash.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	<-c.exited
}

// terminate ends it gracefully, like kubelet.
func (c *child) terminate() {
	c.T.Helper()
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		c.T.Fatal(err)
	}
	<-c.exited
	if c.err != nil {
		c.T.Errorf("the service ended: %v\n%s", c.err, c.Logs)
	}
}
