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
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/internal/backend/redis"
)

func TestMain(m *testing.M) { servers.Main(m) }

// helper makes this binary start a server of the named kind, print its address and wait to be killed.
const helper = "ITECHSMART_TEST_SERVERS_HELPER"

// kinds are the servers whose end is tested: a plain program, and one that starts other programs.
var kinds = map[string]struct {
	shared func(testing.TB) backend.Binding
	own    func(testing.TB) *servers.Server
	config string // a file in its data that contains the port
	ports  int    // with RabbitMQ the last is that of Erlang's port mapper
}{
	"redis":    {servers.Redis, servers.StartRedis, "data/redis.conf", 1},
	"rabbitmq": {servers.RabbitMQ, servers.StartRabbitMQ, "data/rabbitmq.conf", 5},
}

func TestHelper(t *testing.T) {
	kind, ok := kinds[os.Getenv(helper)]
	if !ok {
		t.Skip("runs within TestNoServerOutlivesTheBinary")
	}
	if err := json.NewEncoder(os.Stdout).Encode(map[string]string{"port": kind.shared(t).Port}); err != nil {
		t.Fatal(err)
	}
	<-t.Context().Done()
}

func TestNoServerOutlivesTheBinary(t *testing.T) {
	for name := range kinds {
		t.Run(name, func(t *testing.T) {
			command := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHelper$")
			command.Env = append(os.Environ(), helper+"="+name)
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
			var data struct{ Port string }
			if err := json.Unmarshal(line, &data); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			listens(t, name, data.Port)
			dirs := dataOf(t, name, data.Port)
			if len(dirs) != 1 {
				t.Fatalf("the server's data is in %v, want one directory", dirs)
			}
			if err := command.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = command.Wait()
			deadline := time.After(30 * time.Second)
			for len(listening(t, name, data.Port)) > 0 || exists(dirs[0]) {
				select {
				case <-deadline:
					t.Fatalf("after the kill: ports %v listen, data there %t", listening(t, name, data.Port), exists(dirs[0]))
				case <-time.After(20 * time.Millisecond):
				}
			}
		})
	}
}

// dataOf returns the directories of the servers of a kind on a port.
func dataOf(t *testing.T, kind, port string) []string {
	t.Helper()
	configs, err := filepath.Glob("../../../../.local/test/" + kind + "-*/" + kinds[kind].config)
	if err != nil {
		t.Fatal(err)
	}
	var dirs []string
	for _, config := range configs {
		if text, err := os.ReadFile(config); err == nil && regexp.MustCompile(`[ :]`+port+`\n`).Match(text) {
			dirs = append(dirs, filepath.Dir(filepath.Dir(config)))
		}
	}
	return dirs
}

// listening returns those of a server's ports that accept connections.
func listening(t *testing.T, kind, port string) []int {
	t.Helper()
	first, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	var out []int
	for p := first; p < first+kinds[kind].ports; p++ {
		if conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(p))); err == nil {
			_ = conn.Close()
			out = append(out, p-first)
		}
	}
	return out
}

// listens fails the test unless the first and the last port listen.
func listens(t *testing.T, kind, port string) {
	t.Helper()
	if got := listening(t, kind, port); !slices.Contains(got, 0) || !slices.Contains(got, kinds[kind].ports-1) {
		t.Fatalf("of %d ports %v listen", kinds[kind].ports, got)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestOwn(t *testing.T) {
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			var port string
			var dirs []string
			t.Run("server", func(t *testing.T) {
				s := kind.own(t)
				port = s.Binding.Port
				dirs = dataOf(t, name, port)
				listens(t, name, port)
				s.Stop()
				if left := listening(t, name, port); len(left) > 0 {
					t.Errorf("%v listen after Stop", left)
				}
				s.Restart(t)
				s.Kill()
				s.Kill() // a second call does nothing
				if left := listening(t, name, port); len(left) > 0 {
					t.Errorf("%v listen after Kill", left)
				}
				s.Restart(t)
				listens(t, name, port)
				if shared := kind.shared(t); shared.Port == port {
					t.Error("a test's own server is the shared server")
				}
			})
			if left := listening(t, name, port); len(left) > 0 || len(dirs) != 1 || exists(dirs[0]) {
				t.Errorf("after the test: %v listen, data %v", left, dirs)
			}
		})
	}
}

func TestShared(t *testing.T) {
	if one, two := servers.Redis(t), servers.Redis(t); one.Address() != two.Address() || one.Password != two.Password {
		t.Error("two calls returned two servers")
	}
	if port, err := strconv.Atoi(servers.Redis(t).Port); err != nil || port < 1024 {
		t.Errorf("port %d, %v", port, err)
	}
	if _, err := redis.New(servers.Redis(t)); errors.Is(err, backend.ErrInvalid) {
		t.Error(err)
	}
}
