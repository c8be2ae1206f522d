// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/itechsmart/operator/internal/backend/backendtest"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/test/kube"
	"github.com/itechsmart/operator/workloads/config"
	workerconfig "github.com/itechsmart/operator/workloads/workflow/worker/config"
)

// startOurWorkflow runs Workflow's service and a worker on an API server, a PostgreSQL that syncs each commit, and a
// RabbitMQ with a quorum queue. A webhook waits for the result; its token is verified, and its start is audited. A step
// is a transform; its start and end are durable.
func startOurWorkflow(b *testing.B) *runner {
	b.Helper()
	scheme := runtime.NewScheme()
	err := corev1.AddToScheme(scheme)
	var cluster *kube.Server
	if err == nil {
		cluster, err = kube.Start(scheme)
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = cluster.Stop() })
	kubeconfig := filepath.Join(b.TempDir(), "kubeconfig")
	if err := os.WriteFile(kubeconfig, cluster.Kubeconfig, 0o600); err != nil {
		b.Fatal(err)
	}
	database, rabbit := servers.Postgres(b), servers.RabbitMQ(b)
	settings := serviceSettings(b, "workflow", cluster.Namespace(b, "bench"), database)
	settings.Queue = &config.Queue{Binding: rabbit.Data(), Name: backendtest.Name("tasks")}
	s := startService(b, anywhere, "./workloads/workflow", database, settings, "-kubeconfig", kubeconfig)

	dir, worker := b.TempDir(), servers.FreeAddress(b)
	writeJSON(b, filepath.Join(dir, workerconfig.FileName), workerconfig.Worker{
		Platform: settings.Platform, Namespace: settings.Namespace, Database: settings.Database,
		Queue: settings.Queue.Binding, QueueName: settings.Queue.Name,
	})
	launch(b, anywhere, dir, build(b, "./workloads/workflow/worker"), "--config", dir, "--bindings", dir, "--listen", worker, "--metrics-listen", "").
		answers(b, "http://"+worker+workerconfig.ReadyPath)

	editor := bearer(s.user(b, "editor"))
	for i, j := range jobs {
		name := fmt.Sprintf("job%d", i)
		await(b, time.Minute, func() error { // the API server has just got the kinds
			return try(editor, http.MethodPut, s.url("/api/v1/workflows/"+name), map[string]any{"spec": ourDefinition(j)}, nil)
		})
	}
	return &runner{name: "ours", address: s.address, prefix: "/api/v1/webhooks", header: editor}
}

// ourDefinition keeps its runs for longer than the benchmark takes, because no system deletes runs meanwhile.
func ourDefinition(j job) json.RawMessage {
	steps := []string{`{"name":"s0","type":"transform","with":{"value":0},"forEach":{"items":"${{ inputs.list }}","parallelism":10}}`}
	if j.steps > 0 {
		steps = []string{`{"name":"s0","type":"transform","with":{"value":0}}`}
	}
	for i := 1; i < j.steps; i++ {
		steps = append(steps, fmt.Sprintf(`{"name":"s%d","type":"transform","with":{"value":0},"needs":["s%d"]}`, i, i-1))
	}
	return json.RawMessage(fmt.Sprintf(`{
		"inputs": [{"name":"list","type":"array"}],
		"triggers": [{"name":"call","type":"Webhook","webhook":{"path":%q,"respond":"WaitForResult"},"inputs":{"list":"${{ trigger.body.list }}"}}],
		"steps": [%s],
		"outputs": {"value":"${{ steps.s%d.output }}"},
		"history": {"successful":1000}
	}`, strings.TrimPrefix(j.path, "/"), strings.Join(steps, ","), len(steps)-1))
}
