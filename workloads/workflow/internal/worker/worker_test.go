// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/itechsmart/operator/internal/backend/backendtest"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/internal/db"
	"github.com/itechsmart/operator/workloads/workflow/internal/engine"
	"github.com/itechsmart/operator/workloads/workflow/internal/queue"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
	"github.com/itechsmart/operator/workloads/workflow/internal/storetest"
	"github.com/itechsmart/operator/workloads/workflow/worker/config"
)

func TestMain(m *testing.M) { servers.Main(m) }

// bind writes the connections file like the kubelet: a new directory, and a symbolic link that is replaced by a rename.
func bind(t *testing.T, dir string, b config.Bindings) {
	t.Helper()
	data, err := json.Marshal(b)
	g := NewWithT(t)
	g.Expect(err).NotTo(HaveOccurred())
	fresh, err := os.MkdirTemp(dir, "..fresh")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(os.WriteFile(filepath.Join(fresh, config.BindingsName), data, 0o600)).To(Succeed())
	g.Expect(os.Symlink(fresh, filepath.Join(dir, "..next"))).To(Succeed())
	g.Expect(os.Rename(filepath.Join(dir, "..next"), filepath.Join(dir, "..data"))).To(Succeed())
	if _, err := os.Lstat(filepath.Join(dir, config.BindingsName)); err != nil {
		g.Expect(os.Symlink(filepath.Join("..data", config.BindingsName), filepath.Join(dir, config.BindingsName))).To(Succeed())
	}
}

// system is a worker and the engine of a service.
type system struct {
	*testing.T
	service  *engine.Engine
	bindings string
	address  string
	metrics  string
	stop     func() error
}

func launch(t *testing.T, slots int) *system {
	t.Helper()
	return launchWith(t, slots, func(*config.Worker) {})
}

// launchWith is launch with a change of the worker's configuration.
func launchWith(t *testing.T, slots int, change func(*config.Worker)) *system {
	t.Helper()
	g := NewWithT(t)
	s := &system{T: t, bindings: t.TempDir()}
	c := &config.Worker{
		Platform: "main", Namespace: "shop", Database: storetest.Database(t), Queue: servers.RabbitMQ(t).Data(), QueueName: backendtest.Name("worker"), Slots: slots,
		PrivateCIDRs: []string{"127.0.0.0/8"}, // the tests' own servers
	}
	change(c)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	p := &Process{Config: c, BindingsDir: s.bindings, Addr: "127.0.0.1:0", MetricsAddr: "127.0.0.1:0", Log: log}
	listening := make(chan [2]string, 1)
	p.Listening = func(address, metrics string) { listening <- [2]string{address, metrics} }
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	s.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() { _ = s.stop() })
	at := <-listening
	s.address, s.metrics = "http://"+at[0], "http://"+at[1]
	g.Expect(s.get(s.address+config.ReadyPath)).To(HavePrefix("503"), "the tables do not exist yet")

	pool, err := db.Open(t.Context(), c.Database, "service")
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(pool.Close)
	g.Expect(db.Migrate(t.Context(), pool, store.Migrations, log)).To(Succeed())
	q, err := queue.New(queue.Options{Binding: servers.RabbitMQ(t), Name: c.QueueName})
	g.Expect(err).NotTo(HaveOccurred())
	s.service = engine.New(engine.Options{Pool: pool, Queue: q, Namespace: "shop", Log: log})
	running, end := context.WithCancel(context.Background())
	gone := make(chan struct{})
	go func() { defer close(gone); s.service.Run(running) }()
	t.Cleanup(func() { end(); <-gone })
	g.Eventually(func() string { return s.get(s.address + config.ReadyPath) }, time.Minute).Should(HavePrefix("200"))
	return s
}

func (s *system) get(url string) string {
	s.Helper()
	response, err := http.Get(url)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return fmt.Sprint(response.StatusCode, " ", string(body), err)
}

// start starts a run, and returns its id.
func (s *system) start(workflow, spec string) string {
	s.Helper()
	p, err := engine.Compile(json.RawMessage(spec))
	if err != nil {
		s.Fatal(err)
	}
	var id string
	NewWithT(s.T).Eventually(func() error {
		id, _, err = s.service.Start(s.Context(), engine.Start{Workflow: workflow, Generation: 1, Program: p})
		return err
	}, time.Minute).Should(Succeed())
	return id
}

func (s *system) ended(id string) (store.Run, map[string]any) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), time.Minute)
	defer cancel()
	if err := s.service.Store().Follow(ctx, id, 0, func(store.Event) error { return nil }); err != nil {
		s.Fatal(err)
	}
	run, err := s.service.Store().Get(ctx, id)
	if err != nil {
		s.Fatal(err)
	}
	outputs, err := s.service.Outputs(ctx, id)
	if err != nil {
		s.Fatal(err)
	}
	return run, outputs
}

const query = `{"connections":[{"name":"db"}],
	"steps":[{"name":"ask","type":"sql","with":{"connection":"db","query":"select 6 * 7 as answer"}}],
	"outputs":{"answer":"${{ steps.ask.output.rows[0].answer }}"}}`

// A worker executes a service's runs with the connections that the operator rendered for their workflow, and not with those of
// others. It picks up a rotated password while it runs.
func TestConnections(t *testing.T) {
	s := launch(t, 8)
	good := servers.Postgres(t).Data()
	wrong := servers.Postgres(t).Data()
	wrong["password"] = "wrong-" + wrong["password"]
	delete(wrong, "uri")
	bind(t, s.bindings, config.Bindings{Workflows: map[string]config.WorkflowBindings{
		"orders": {Connections: map[string]map[string]string{"db": wrong}},
	}})
	NewWithT(t).Eventually(func() string {
		run, _ := s.ended(s.start("orders", query))
		return run.Error
	}, time.Minute).Should(ContainSubstring("password authentication failed"), "the worker should read the new file")
	other := s.start("other", query)
	NewWithT(t).Eventually(func() string {
		steps, _, err := s.service.Store().Steps(t.Context(), other, store.Cursor{Step: -1, Item: -1}, 0)
		if err != nil || len(steps) == 0 {
			return fmt.Sprint(err)
		}
		return string(steps[0].Phase) + string(steps[0].Detail)
	}, time.Minute).Should(And(HavePrefix("Waiting"), ContainSubstring(`"connection":"db"`)), "another workflow's connection must not be used")
	bind(t, s.bindings, config.Bindings{Workflows: map[string]config.WorkflowBindings{
		"orders": {Connections: map[string]map[string]string{"db": good}}, "other": {Connections: map[string]map[string]string{"db": good}},
	}})
	if run, outputs := s.ended(other); fmt.Sprint(run.Phase, " ", outputs["answer"]) != "Succeeded 42" {
		t.Errorf("late connection: %s %s", run.Phase, run.Error)
	}
	NewWithT(t).Eventually(func() any {
		run, outputs := s.ended(s.start("orders", query))
		return fmt.Sprint(run.Phase, " ", outputs["answer"])
	}, time.Minute).Should(Equal("Succeeded 42"), "a rotated password reaches the worker")
	if got := s.get(s.metrics + "/metrics"); !strings.Contains(got, `itechsmart_workflow_step_attempt_seconds_count{outcome="succeeded",type="sql"} `) {
		t.Errorf("metrics lack the step: %s", got)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
}

// A worker that is stopped finishes its running steps.
func TestFinishesRunningSteps(t *testing.T) {
	s := launch(t, 1)
	arrived, answer := make(chan struct{}, 10), make(chan struct{})
	slow := http.Server{Addr: "127.0.0.1:0", Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-answer
		_, _ = w.Write([]byte(`"done"`))
	})}
	listener := listen(t)
	go func() { _ = slow.Serve(listener) }()
	t.Cleanup(func() { _ = slow.Close() })
	id := s.start("slow", fmt.Sprintf(`{"steps":[{"name":"call","type":"http","with":{"url":"http://%s/"}}]}`, listener.Addr()))
	select {
	case <-arrived:
	case <-time.After(time.Minute):
		t.Fatal("the step was not started")
	}
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop() }()
	NewWithT(t).Eventually(func() string { return s.get(s.address + config.LivePath) }).Should(HavePrefix("200"), "the worker lives until the step has ended")
	close(answer)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	run, _ := s.ended(id)
	if run.Phase != store.Succeeded || len(arrived) != 0 {
		t.Errorf("%s, and the step was started %d more times", run.Phase, len(arrived))
	}
}

// Outputs that are too large for the database are stored in the worker's bucket and read from it.
func TestLargeOutputs(t *testing.T) {
	s := launchWith(t, 1, func(c *config.Worker) {
		c.Objects, c.MaxOutputBytes = servers.Bucket(t, servers.MinIO(t)).Data(), 8<<20
	})
	id := s.start("large", `{"steps":[{"name":"a","type":"script","with":{"source":"result = 'x' * 5000000"}},
		{"name":"b","needs":["a"],"type":"transform","with":{"value":"${{ size(steps.a.output.result) }}"}}],"outputs":{"size":"${{ steps.b.output }}"}}`)
	if run, outputs := s.ended(id); run.Phase != store.Succeeded || outputs["size"] != int64(5000000) {
		t.Errorf("%s: %s, outputs %v", run.Phase, run.Error, outputs)
	}
	metrics := s.get(s.metrics + "/metrics")
	for _, line := range []string{"itechsmart_workflow_payload_written_bytes_total 5.0000", "itechsmart_workflow_payload_read_bytes_total 5.0000",
		`itechsmart_workflow_payload_failures_total{operation="read"} 0`} {
		if !strings.Contains(metrics, line) {
			t.Errorf("the metrics lack %s", line)
		}
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}
