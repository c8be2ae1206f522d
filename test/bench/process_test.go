// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/test/kube"
	"github.com/itechsmart/operator/test/load"
)

// loadEnv makes this binary send the load that it reads from its standard input.
const loadEnv = "ITECHSMART_BENCH_LOAD"

func TestMain(m *testing.M) {
	if os.Getenv(loadEnv) == "" {
		servers.Main(m)
	}
	if err := load.Main(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Where a process runs: on any processor, or where a comparison pins a server with its database, and the client.
const (
	anywhere   = -1
	serverCore = 0
	clientCore = 1
)

// build returns the path of a program of this module, static as in its image.
func build(b *testing.B, pkg string) string {
	b.Helper()
	program := filepath.Join(b.TempDir(), filepath.Base(pkg))
	cmd := exec.Command("go", "build", "-o", program, pkg)
	cmd.Dir = kube.Root()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
	return program
}

// pinned runs start such that the processes it starts stay on a core.
func pinned(b *testing.B, core int, start func()) {
	b.Helper()
	if core == anywhere {
		start()
		return
	}
	if runtime.NumCPU() < 2 {
		b.Skip("a server and its client need a processor each")
	}
	done := make(chan struct{})
	go func() { // start may end the goroutine
		defer close(done)
		runtime.LockOSThread() // permanently: the thread, whose children inherit its core, ends with the goroutine
		if out, err := exec.Command("taskset", "-cp", strconv.Itoa(core), strconv.Itoa(syscall.Gettid())).CombinedOutput(); err != nil {
			b.Errorf("taskset: %v\n%s", err, out)
			return
		}
		start()
	}()
	<-done
	if b.Failed() {
		b.FailNow()
	}
}

// process is a server in a process of its own.
type process struct {
	cmd *exec.Cmd
	dir string
}

// launch starts a program on a core. Its output is written to files in dir.
func launch(b *testing.B, core int, dir, program string, args ...string) *process {
	b.Helper()
	p := &process{cmd: exec.Command(program, args...), dir: dir}
	p.cmd.Dir = dir
	for name, to := range map[string]*io.Writer{"out": &p.cmd.Stdout, "err": &p.cmd.Stderr} {
		file, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			b.Fatal(err)
		}
		defer file.Close()
		*to = file
	}
	pinned(b, core, func() {
		if err := p.cmd.Start(); err != nil {
			b.Error(err)
		}
	})
	b.Cleanup(p.kill)
	return p
}

// kill ends the process like a crash.
func (p *process) kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
}

// tail returns the end of the process's log.
func (p *process) tail() string {
	text, err := os.ReadFile(filepath.Join(p.dir, "err"))
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-2000):])
}

// answers waits until a URL returns 200.
func (p *process) answers(b *testing.B, url string) {
	b.Helper()
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) { // the polling interval
		var answer *http.Response
		if answer, err = http.Get(url); err != nil {
			continue
		}
		answer.Body.Close()
		if answer.StatusCode == http.StatusOK {
			return
		}
		err = fmt.Errorf("%s", answer.Status)
	}
	b.Fatalf("%s: %v\n%s", url, err, p.tail())
}

// call sends one request, and reads the response, which must be 2xx, into out unless that is nil.
func call(b *testing.B, header map[string]string, method, url string, body, out any) {
	b.Helper()
	if err := try(header, method, url, body, out); err != nil {
		b.Fatal(err)
	}
}

func try(header map[string]string, method, url string, body, out any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	if body == nil {
		data = nil
	}
	request, err := http.NewRequest(method, url, bytes.NewReader(data))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	for name, value := range header {
		request.Header.Set(name, value)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s", method, url, answer.Status, text)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

// send runs the load from a process of its own on a core. The caller judges errors.
func send(b *testing.B, core int, spec load.Spec) load.Result {
	b.Helper()
	data, err := json.Marshal(spec)
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), loadEnv+"=1")
	cmd.Stdin = bytes.NewReader(data)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	pinned(b, core, func() {
		if err := cmd.Start(); err != nil {
			b.Error(err)
		}
	})
	if err := cmd.Wait(); err != nil {
		b.Fatalf("the client: %v\n%s", err, errs.String())
	}
	var result load.Result
	if err := json.Unmarshal(out.Bytes(), &result); err != nil {
		b.Fatal(err)
	}
	b.Logf("%d requests in %.1f s, %d errors %s; ms: %+v", result.Requests, result.Seconds, result.Errors, strings.Join(result.Failures, "; "), result.Classes)
	return result
}

// sound fails the benchmark if a response was not as expected.
func sound(b *testing.B, result load.Result) load.Result {
	b.Helper()
	if result.Errors > 0 {
		b.Fatalf("%d of %d requests failed: %s", result.Errors, result.Requests, strings.Join(result.Failures, "; "))
	}
	return result
}
