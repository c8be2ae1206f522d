// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

const (
	testUser     = "app"
	testPassword = "s3cret:p@ss"
	testDatabase = "metrics"
)

// program builds the server once and finds the library; the tests of the real engine need both.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "clickhouse-server-test-")
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "clickhouse-server")
	output, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, output)
	}
	return binary, nil
})

func library(t testing.TB) string {
	t.Helper()
	file := os.Getenv("CHDB_LIBRARY")
	if file == "" {
		file = filepath.Join("..", "..", "..", ".local", "servers", "clickhouse", "libchdb.so")
	}
	if _, err := os.Stat(file); err != nil {
		t.Skipf("no ClickHouse library (run `images servers`, or set CHDB_LIBRARY): %v", err)
	}
	file, err := filepath.Abs(file)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// server is a running process.
type server struct {
	t    testing.TB
	cmd  *exec.Cmd
	addr string
	log  *bytes.Buffer
	done chan error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if binary, err := program(); err == nil {
		_ = os.RemoveAll(filepath.Dir(binary))
	}
	os.Exit(code)
}

func start(t testing.TB, data string) *server {
	t.Helper()
	lib := library(t)
	binary, err := program()
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	_ = listener.Close()
	s := &server{t: t, addr: addr, log: new(bytes.Buffer), done: make(chan error, 1)}
	s.cmd = exec.Command(binary, "--library", lib, "--path", data, "--listen", addr)
	s.cmd.Env = append(os.Environ(), "CLICKHOUSE_USER="+testUser, "CLICKHOUSE_PASSWORD="+testPassword, "CLICKHOUSE_DB="+testDatabase)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { s.done <- s.cmd.Wait() }()
	t.Cleanup(s.kill)
	deadline := time.Now().Add(60 * time.Second)
	for {
		response, err := http.Get("http://" + addr + "/ping")
		if err == nil {
			_ = response.Body.Close()
			return s
		}
		select {
		case err := <-s.done:
			t.Fatalf("the server ended: %v\n%s", err, s.log)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("the server does not respond: %v", err)
		}
	}
}

// kill ends the process at once and waits until it has exited.
func (s *server) kill() {
	if s.done == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	if err := <-s.done; err == nil {
		s.t.Error("the server had exited by itself")
	}
	s.done = nil
}

// stop terminates the process and returns how it ended.
func (s *server) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	err := <-s.done
	s.done = nil
	return err
}

func (s *server) open(compression *clickhouse.Compression) driver.Conn {
	s.t.Helper()
	conn, err := clickhouse.Open(&clickhouse.Options{
		Addr: []string{s.addr}, Protocol: clickhouse.HTTP, Compression: compression, MaxOpenConns: 16,
		Auth: clickhouse.Auth{Username: testUser, Password: testPassword, Database: testDatabase},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// post sends a query like curl and returns the status, the header and the body.
func (s *server) post(query string, body io.Reader) (int, http.Header, string) {
	s.t.Helper()
	request, err := http.NewRequest(http.MethodPost, "http://"+s.addr+"/?"+query, body)
	if err != nil {
		s.t.Fatal(err)
	}
	request.SetBasicAuth(testUser, testPassword)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response.StatusCode, response.Header, string(content)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func count(t testing.TB, conn driver.Conn, query string, args ...any) uint64 {
	t.Helper()
	var n uint64
	must(t, conn.QueryRow(context.Background(), query, args...).Scan(&n))
	return n
}

func lines(parts ...string) io.Reader { return strings.NewReader(strings.Join(parts, "\n")) }
