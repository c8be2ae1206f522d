// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/itechsmart/operator/test/kube"
	"github.com/itechsmart/operator/test/load"
)

// runner is a system that runs a workflow for an HTTP request, and responds with the result.
type runner struct {
	name, address, prefix string
	header                map[string]string // nil: only the type of the body
}

// peers start the systems that Workflow is compared with. One that cannot be installed returns why.
var peers = []func(*testing.B) ([]*runner, error){startTemporal, startN8N}

const (
	// fanOutItems are processed ten at a time.
	fanOutItems = 100
	// atOnce is how many clients wait for a result when runs are counted.
	atOnce = 32
)

// job is the work of all systems: steps that only return a number.
type job struct {
	name, path string
	steps      int // of a chain; 0 is the fan-out
	values     int // of the result
	runs       int // of one round, one at a time
}

func chainJob(steps, runs int) job {
	return job{name: fmt.Sprintf("chain of %d", steps), path: fmt.Sprintf("/chain/%d", steps), steps: steps, values: 1, runs: runs}
}

var (
	threeSteps = chainJob(3, 50)
	jobs       = []job{threeSteps, chainJob(40, 10), chainJob(100, 5), {name: "fan-out 10 x 10", path: "/fan-out", values: fanOutItems, runs: 5}}
)

func (j job) body(b *testing.B) []byte {
	b.Helper()
	data, err := json.Marshal(map[string]any{"list": make([]int, fanOutItems)})
	if err != nil {
		b.Fatal(err)
	}
	return data
}

func (r *runner) spec(b *testing.B, j job, connections int) load.Spec {
	b.Helper()
	header := map[string]string{"Content-Type": "application/json"}
	maps.Copy(header, r.header)
	return load.Spec{Address: r.address, Connections: connections, Classes: []load.Class{{Name: r.name, Weight: 1, Requests: []load.Request{{
		Method: http.MethodPost, Path: r.prefix + j.path, Body: j.body(b), Status: http.StatusOK, Header: header,
	}}}}}
}

// works waits until a job returns the expected result: a number, or a list of them.
func (r *runner) works(b *testing.B, j job) {
	b.Helper()
	await(b, time.Minute, func() error {
		var answer struct {
			Value any
			Data  struct{ Outputs struct{ Value any } } // ours
		}
		if err := try(r.header, http.MethodPost, "http://"+r.address+r.prefix+j.path, json.RawMessage(j.body(b)), &answer); err != nil {
			return err
		}
		value := answer.Value
		if value == nil {
			value = answer.Data.Outputs.Value
		}
		list, ok := value.([]any)
		if !ok {
			list = []any{value}
		}
		if len(list) != j.values || list[0] != float64(0) {
			return fmt.Errorf("%s: %s gives %v", r.name, j.name, value)
		}
		return nil
	})
}

// BenchmarkWorkflowBesidePeers compares all systems at the same work in one run: a request starts a workflow and the
// response is its result. Each stores its state on this disk as it does by default. All of them, and the client, which is
// a process of its own, share the processors; the systems take turns, and the medians of a few rounds are compared. A
// ratio is how many times faster ours is.
func BenchmarkWorkflowBesidePeers(b *testing.B) {
	const rounds, seconds = 3, 5
	runners := []*runner{startOurWorkflow(b)}
	for _, start := range peers {
		peer, err := start(b)
		if err != nil {
			b.Logf("a peer is left out: %v", err)
		}
		runners = append(runners, peer...)
	}
	for _, r := range runners {
		for _, j := range jobs {
			r.works(b, j)
		}
	}
	// turns returns the median of the figures of each system.
	turns := func(of func(*runner) float64) []float64 {
		took := make([][]float64, len(runners))
		for range rounds {
			for i, r := range runners {
				took[i] = append(took[i], of(r))
			}
		}
		out := make([]float64, len(runners))
		for i := range took {
			out[i] = median(took[i])
		}
		return out
	}
	report := func(name, unit string, got []float64, ratio func(ours, theirs float64) float64) {
		b.Run("Workflow "+name, func(b *testing.B) {
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(got[0], unit)
			for i, r := range runners[1:] {
				b.ReportMetric(got[i+1], r.name+"-"+unit)
				b.ReportMetric(ratio(got[0], got[i+1]), r.name+"-ratio")
			}
			b.ReportMetric(1, "target-ratio")
		})
	}
	report(fmt.Sprintf("%s, %d at a time", threeSteps.name, atOnce), "runs/s", turns(func(r *runner) float64 {
		spec := r.spec(b, threeSteps, atOnce)
		spec.Seconds = seconds
		return sound(b, send(b, anywhere, spec)).PerSecond()
	}), func(ours, theirs float64) float64 { return ours / theirs })
	for _, j := range jobs {
		report(j.name+", one at a time", "ms", turns(func(r *runner) float64 {
			spec := r.spec(b, j, 1)
			spec.Each = j.runs
			return sound(b, send(b, anywhere, spec)).All.P50
		}), func(ours, theirs float64) float64 { return theirs / ours })
	}
}

// install runs a script of hack/tools unless the last file that it creates exists.
func install(b *testing.B, script, last string) error {
	b.Helper()
	if _, err := os.Stat(last); err == nil {
		return nil
	}
	b.Logf("%s installs what is missing: this takes long", script)
	if out, err := exec.Command(filepath.Join(kube.Root(), "hack", "tools", script)).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", script, err, out[max(0, len(out)-2000):])
	}
	return nil
}

func portOf(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }

// diskDir returns a directory next to those of the test servers: the system's temporary files may be in memory, where a
// sync is free.
func diskDir(b *testing.B, name string) string {
	b.Helper()
	base := filepath.Join(kube.Root(), ".local", "test")
	err := os.MkdirAll(base, 0o755)
	var dir string
	if err == nil {
		dir, err = os.MkdirTemp(base, name+"-")
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			b.Error(err)
		}
	})
	return dir
}
