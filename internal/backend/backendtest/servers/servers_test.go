// SPDX-License-Identifier: Apache-2.0

package servers_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/internal/backend/redis"
)

func TestMain(m *testing.M) { servers.Main(m) }

// helper makes this binary start a server, tell its address and wait to be killed.
const helper = "ITECHSMART_TEST_SERVERS_HELPER"

func TestHelper(t *testing.T) {
	if os.Getenv(helper) == "" {
		t.Skip("runs within TestNothingOutlivesTheBinary")
	}
	b := servers.Redis(t)
	if err := json.NewEncoder(os.Stdout).Encode(map[string]string{"port": b.Port, "password": b.Password}); err != nil {
		t.Fatal(err)
	}
	<-t.Context().Done()
}

func TestNothingOutlivesTheBinary(t *testing.T) {
	command := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHelper$")
	command.Env = append(os.Environ(), helper+"=1")
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	data := map[string]string{"host": "127.0.0.1"}
	if err := json.Unmarshal(line, &data); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	b := backend.ParseBinding(data)
	admin, err := redis.New(b)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close() //nolint:errcheck // the test is over
	if _, err := admin.Ping(backendtest.Context(t)); err != nil {
		t.Fatal(err)
	}
	dirs := dataOf(t, b.Port)
	if len(dirs) != 1 {
		t.Fatalf("the server's data is in %v, want one directory", dirs)
	}
	if err := command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = command.Wait()
	deadline := time.After(30 * time.Second)
	for listens(b.Address()) || exists(dirs[0]) {
		select {
		case <-deadline:
			t.Fatalf("after the kill: listens %t, data there %t", listens(b.Address()), exists(dirs[0]))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// dataOf finds the directories of the servers on a port.
func dataOf(t *testing.T, port string) []string {
	t.Helper()
	configs, err := filepath.Glob("../../../../.local/test/redis-*/data/redis.conf")
	if err != nil {
		t.Fatal(err)
	}
	var dirs []string
	for _, config := range configs {
		if text, err := os.ReadFile(config); err == nil && strings.Contains(string(text), "port "+port+"\n") {
			dirs = append(dirs, filepath.Dir(filepath.Dir(config)))
		}
	}
	return dirs
}

func listens(address string) bool {
	conn, err := net.Dial("tcp", address)
	if err == nil {
		_ = conn.Close()
	}
	return err == nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestOwn(t *testing.T) {
	var address string
	var dirs []string
	t.Run("server", func(t *testing.T) {
		s := servers.StartRedis(t)
		address = s.Binding.Address()
		dirs = dataOf(t, s.Binding.Port)
		s.Stop()
		if listens(address) {
			t.Error("it listens after Stop")
		}
		s.Restart(t)
		s.Kill()
		s.Kill() // again does nothing
		if listens(address) {
			t.Error("it listens after Kill")
		}
		s.Restart(t)
		if !listens(address) {
			t.Error("it does not listen after Restart")
		}
		if shared := servers.Redis(t); shared.Address() == address {
			t.Error("a test's own server is the shared one")
		}
	})
	if listens(address) || len(dirs) != 1 || exists(dirs[0]) {
		t.Errorf("after the test: listens %t, data %v", listens(address), dirs)
	}
}

func TestShared(t *testing.T) {
	if one, two := servers.Redis(t), servers.Redis(t); one.Address() != two.Address() || one.Password != two.Password {
		t.Error("two calls gave two servers")
	}
	if port, err := strconv.Atoi(servers.Redis(t).Port); err != nil || port < 1024 {
		t.Errorf("port %d, %v", port, err)
	}
	if _, err := redis.New(servers.Redis(t)); errors.Is(err, backend.ErrInvalid) {
		t.Error(err)
	}
}
