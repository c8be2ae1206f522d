// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/test/kube"
)

// managerProcess is cmd/manager as a process of its own, with its own memory.
type managerProcess struct {
	cmd     *exec.Cmd
	metrics string // address
	pprof   string // address
	started time.Time
}

// startManager returns once the caches are synced.
func startManager(b *testing.B, program, kubeconfig string) *managerProcess {
	b.Helper()
	health := servers.FreeAddress(b)
	m := &managerProcess{metrics: servers.FreeAddress(b), pprof: servers.FreeAddress(b), started: time.Now()}
	m.cmd = exec.Command(program, "--kubeconfig", kubeconfig, "--metrics-bind-address", m.metrics, "--health-probe-bind-address", health, "--pprof-bind-address", m.pprof,
		"--image-registry", "bench", "--log-level", "ERROR")
	m.cmd.Stderr = os.Stderr
	if err := m.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { m.stop(b) })
	await(b, time.Minute, func() error {
		resp, err := http.Get("http://" + health + "/readyz")
		if err != nil {
			return err
		}
		defer resp.Body.Close() //nolint:errcheck // the code is all
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
	return m
}

func (m *managerProcess) stop(b *testing.B) {
	if m.cmd == nil {
		return
	}
	_ = m.cmd.Process.Signal(syscall.SIGTERM)
	if err := m.cmd.Wait(); err != nil {
		b.Logf("manager: %v", err)
	}
	m.cmd = nil
}

// memory returns the process's resident set in MiB.
func (m *managerProcess) memory(b *testing.B) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(value)[0], 64)
			if err != nil {
				b.Fatal(err)
			}
			return kib / 1024
		}
	}
	b.Fatal("no VmRSS")
	return 0
}

// profile writes the heap profile to .local, for go tool pprof.
func (m *managerProcess) profile(b *testing.B) {
	b.Helper()
	if err := os.WriteFile(filepath.Join(kube.Root(), ".local", "manager.heap"), m.debug(b, "heap?gc=1"), 0o600); err != nil {
		b.Fatal(err)
	}
}

// debug returns a response of the manager's pprof.
func (m *managerProcess) debug(b *testing.B, what string) []byte {
	b.Helper()
	resp, err := http.Get("http://" + m.pprof + "/debug/pprof/" + what)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		b.Fatal(err)
	}
	return data
}

// synced returns an error while a controller waits for a cache: readiness covers only the caches that were requested so
// far.
func (m *managerProcess) synced(b *testing.B) error {
	if bytes.Contains(m.debug(b, "goroutine?debug=2"), []byte("WaitForSync")) {
		return errors.New("a controller waits for a cache")
	}
	return nil
}

// load returns the CPU time the process has used, in seconds, and its live heap, in MiB.
func (m *managerProcess) load(b *testing.B) (cpu, heap float64) {
	b.Helper()
	metrics := m.scrape(b)
	cpu = metrics["process_cpu_seconds_total"].GetMetric()[0].GetCounter().GetValue()
	// The collector's next goal is half more than the live heap: the manager sets GOGC to 50.
	return cpu, metrics["go_memstats_next_gc_bytes"].GetMetric()[0].GetGauge().GetValue() / 1.5 / (1 << 20)
}

// scrape reads the manager's metrics in the format with native histograms.
func (m *managerProcess) scrape(b *testing.B) map[string]*dto.MetricFamily {
	b.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://"+m.metrics+"/metrics", nil)
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Accept", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	return families(b, resp)
}

func families(b *testing.B, resp *http.Response) map[string]*dto.MetricFamily {
	b.Helper()
	decoder := expfmt.NewDecoder(resp.Body, expfmt.ResponseFormat(resp.Header))
	out := map[string]*dto.MetricFamily{}
	for {
		family := &dto.MetricFamily{}
		err := decoder.Decode(family)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			b.Fatal(err)
		}
		out[family.GetName()] = family
	}
}

// idle returns an error until the manager has made this many passes over Pipelines and has nothing to do.
func (m *managerProcess) idle(b *testing.B, passes float64) error {
	metrics := m.scrape(b)
	if made := sum(metrics["controller_runtime_reconcile_total"], "controller", "pipeline"); made < passes {
		return fmt.Errorf("%v of %v passes over Pipelines", made, passes)
	}
	for _, controller := range []string{"pipeline", "platform"} {
		waiting := sum(metrics["workqueue_depth"], "name", controller) + sum(metrics["controller_runtime_active_workers"], "controller", controller)
		if waiting > 0 {
			return fmt.Errorf("%v in the queue of %s", waiting, controller)
		}
	}
	return nil
}

// await polls until check returns nil.
func await(b *testing.B, timeout time.Duration, check func() error) {
	b.Helper()
	var err error
	for deadline := time.Now().Add(timeout); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) { // the polling interval
		if err = check(); err == nil {
			return
		}
	}
	b.Fatalf("after %s: %v", timeout, err)
}
