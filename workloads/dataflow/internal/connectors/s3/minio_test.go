// SPDX-License-Identifier: Apache-2.0

package s3

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connector/connectortest"
)

// program finds .local/bin/minio above the test's directory.
func program(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		path := filepath.Join(dir, ".local", "bin", "minio")
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	t.Skip(".local/bin/minio is missing: build it by hack/tools/minio.sh")
	return ""
}

// startMinIO runs a real server, stopped when the test ends.
func startMinIO(t testing.TB) backend.Binding {
	t.Helper()
	path := program(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	b := backend.Binding{Type: "s3", URI: "http://" + address, Username: "itechsmart", Password: "s3cr3tpassw0rd"}
	b.Host, b.Port, _ = strings.Cut(address, ":")
	b.URI = ""
	var log bytes.Buffer
	cmd := exec.Command(path, "server", t.TempDir(), "--address", address)
	cmd.Env = append(os.Environ(), "MINIO_ROOT_USER="+b.Username, "MINIO_ROOT_PASSWORD="+b.Password, "MINIO_BROWSER=off", "CI=true")
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for deadline := time.Now().Add(30 * time.Second); ; {
		response, err := http.Get("http://" + address + "/minio/health/ready")
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return b
			}
		}
		if time.Now().After(deadline) {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			t.Fatalf("MinIO is not ready: %v\n%s", err, log.String())
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// What only a real server refuses.
func TestMinIORefusals(t *testing.T) {
	b := startMinIO(t)
	_, name := newBucket(t, b)
	env := connectortest.NewEnv(t, Sink(), b)
	if _, err := openSink(t.Context(), SinkConfig{Bucket: Bucket{"no-such-bucket"}}, env); !errors.Is(err, backend.ErrNotFound) {
		t.Errorf("missing bucket: %v, want backend.ErrNotFound", err)
	}
	env.Binding.Password = "wr0ngpassw0rd"
	if _, err := openSink(t.Context(), SinkConfig{Bucket: Bucket{name}}, env); !errors.Is(err, backend.ErrAuth) || strings.Contains(fmt.Sprint(err), "wr0ngpassw0rd") {
		t.Errorf("wrong key: %v, want backend.ErrAuth", err)
	}
}

// An object above the size of one part is sent in parts and appears whole.
func TestMinIOMultipart(t *testing.T) {
	s, _ := newBucket(t, startMinIO(t))
	data := bytes.Repeat([]byte("0123456789abcdef"), 40<<20/16)
	if err := s.Put(t.Context(), "big", data); err != nil {
		t.Fatal(err)
	}
	entries, _, err := s.List(t.Context(), "")
	if err != nil || len(entries) != 1 || entries[0].Size != int64(len(data)) {
		t.Fatalf("listed %v, %v", entries, err)
	}
	f, err := s.Open(t.Context(), entries[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	part := make([]byte, 32)
	if _, err := f.ReadAt(part, 20<<20+8); err != nil || string(part) != "89abcdef0123456789abcdef01234567" {
		t.Errorf("read %q, %v", part, err)
	}
}
