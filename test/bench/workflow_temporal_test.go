// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/test/kube"
)

// startTemporal runs Temporal's dev server with its defaults, and without the limit that a run is processed 20 times a
// second: the dev server has one shard, and this is a limit per shard.
func startTemporal(b *testing.B) ([]*runner, error) {
	b.Helper()
	server := filepath.Join(kube.Root(), ".local", "bin", "temporal-server")
	if err := install(b, "temporal.sh", server); err != nil {
		return nil, err
	}
	worker := filepath.Join(b.TempDir(), "temporal")
	cmd := exec.Command("go", "build", "-C", filepath.Join(kube.Root(), "hack", "tools", "temporal"), "-o", worker, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build a worker of Temporal: %w\n%s", err, out)
	}
	return []*runner{
		runTemporal(b, "temporal", server, worker),
		runTemporal(b, "temporal-tuned", server, worker, "history.transferProcessorMaxPollRPS=1000"),
	}, nil
}

// runTemporal runs a dev server on an SQLite file, which it syncs at each commit (a rollback journal, synchronous FULL),
// and in another process a worker of the Go SDK. A step is an activity; its scheduling, start and end are durable.
func runTemporal(b *testing.B, name, server, worker string, settings ...string) *runner {
	b.Helper()
	address, dir := servers.FreeAddress(b), diskDir(b, name)
	launch(b, anywhere, dir, server, append([]string{portOf(address), filepath.Join(dir, "temporal.db")}, settings...)...)
	r := &runner{name: name, address: servers.FreeAddress(b)}
	launch(b, anywhere, b.TempDir(), worker, address, r.address).answers(b, "http://"+r.address+"/ready")
	return r
}
