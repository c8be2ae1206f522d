// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/config"
)

// startOurWorkflow runs Workflow's engine as two processes, one that starts runs and answers, and a worker, on a PostgreSQL that
// syncs each commit and a RabbitMQ with a quorum queue. A step is a transform; each is begun and ended durably.
func startOurWorkflow(b *testing.B) *runner {
	b.Helper()
	database := servers.Postgres(b)
	schema := "bench_" + strings.ToLower(rand.Text())
	admin := connect(b, database)
	defer admin.Close(context.Background()) //nolint:errcheck // the benchmark's own
	if _, err := admin.Exec(b.Context(), "CREATE SCHEMA "+schema); err != nil {
		b.Fatal(err)
	}
	program, dir := build(b, "./workloads/workflow/internal/benchmarks/program"), b.TempDir()
	data, err := json.Marshal(map[string]any{
		"database": config.Database{Binding: database.Data(), Schema: schema},
		"queue":    servers.RabbitMQ(b).Data(),
	})
	settings := filepath.Join(dir, "settings.json")
	if err == nil {
		err = os.WriteFile(settings, data, 0o600)
	}
	if err != nil {
		b.Fatal(err)
	}
	r := &runner{name: "ours", address: freeAddress(b)}
	service := launch(b, anywhere, dir, program, "service", settings, r.address)
	launch(b, anywhere, b.TempDir(), program, "worker", settings)
	service.answers(b, "http://"+r.address+"/ready")
	return r
}
