// SPDX-License-Identifier: Apache-2.0

// Package enginetest runs the Workflow service without its REST API for tests: a real API server, database and queue, the catalog,
// the launcher, and an engine that executes all step types.
package enginetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	workflowv1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/internal/backend/backendtest"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/test/kube"
	"github.com/itechsmart/operator/workloads/internal/kinds"
	"github.com/itechsmart/operator/workloads/workflow/internal/catalog"
	"github.com/itechsmart/operator/workloads/workflow/internal/engine"
	"github.com/itechsmart/operator/workloads/workflow/internal/launch"
	"github.com/itechsmart/operator/workloads/workflow/internal/queue"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/step"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
	"github.com/itechsmart/operator/workloads/workflow/internal/storetest"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

// Long is the timeout of tests.
const Long = time.Minute

// Platform is the name of the Platform in all tests.
const Platform = "main"

var shared struct {
	once   sync.Once
	server *kube.Server
	err    error
}

// Main runs a package's tests, and stops all servers.
func Main(m *testing.M) {
	code := m.Run()
	if shared.server != nil {
		if err := shared.server.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	servers.Close()
	os.Exit(code)
}

// Cluster returns an API server that all tests of a package share.
func Cluster(t testing.TB) *rest.Config {
	t.Helper()
	shared.once.Do(func() { shared.server, shared.err = kube.Start(scheme.Scheme) })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return rest.CopyConfig(shared.server.Config)
}

// Harness is one service, without its REST API.
type Harness struct {
	*engine.Engine
	G          *gomega.WithT
	T          testing.TB
	Namespace  string
	Kubernetes *rest.Config
	Client     client.Client
	Pool       *pgxpool.Pool
	Resources  *kinds.Store
	Catalog    *catalog.Catalog
	Launcher   *launch.Launcher
	Log        *slog.Logger
	group      sync.WaitGroup
	ctx        context.Context
}

// New starts a service with its own namespace, database and queue. It stops with the test.
func New(t testing.TB) *Harness {
	t.Helper()
	r := &Harness{T: t, G: gomega.NewWithT(t), Kubernetes: Cluster(t), Namespace: strings.ReplaceAll(backendtest.Name("wf"), "_", "-"), Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	r.Pool = storetest.Pool(t) // opened first, so that it is closed last
	ctx, cancel := context.WithCancel(context.Background())
	r.ctx = ctx
	t.Cleanup(func() {
		cancel()
		r.group.Wait()
	})
	all := runtime.NewScheme()
	must(t, errors.Join(workflowv1.AddToScheme(all), scheme.AddToScheme(all)))
	var err error
	r.Client, err = client.New(r.Kubernetes, client.Options{Scheme: all})
	must(t, err)
	must(t, r.Client.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: r.Namespace}}))
	r.Resources, err = kinds.Open(ctx, kinds.Options{
		Config: r.Kubernetes, Scheme: all, Namespace: r.Namespace, Kinds: []client.Object{&workflowv1.Workflow{}, &workflowv1.WorkflowRun{}}, Log: r.Log,
	})
	must(t, err)
	r.Catalog = catalog.New(catalog.Options{Resources: r.Resources, Platform: Platform, Log: r.Log})
	b := servers.RabbitMQ(t)
	q, err := queue.New(queue.Options{Binding: b, Name: backendtest.Name("tasks"), PublishTimeout: time.Second, Log: r.Log})
	must(t, err)
	set := steps.New(step.Env{})
	r.Engine = engine.New(engine.Options{Pool: r.Pool, Queue: q, Executor: set, Compile: compile, Namespace: r.Namespace, Sweep: 20 * time.Millisecond, Log: r.Log})
	r.Launcher = launch.New(r.Catalog, r.Engine, r.Pool)
	r.Go(r.Engine.Run)
	r.Go(func(ctx context.Context) { _ = r.Resources.Run(ctx) })
	r.Go(func(ctx context.Context) { _ = r.Catalog.Run(ctx) })
	r.Go(func(ctx context.Context) { r.Launcher.Run(ctx, r.Log) })
	r.G.Eventually(func() error { return q.Ready(ctx) }, Long).Should(gomega.Succeed())
	if !r.Catalog.WaitSeen(ctx) {
		t.Fatal("the Workflows were not read")
	}
	return r
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func compile(spec json.RawMessage) (*definition.Program, error) {
	var w definition.Workflow
	if err := json.Unmarshal(spec, &w); err != nil {
		return nil, err
	}
	return definition.Compile(&w)
}

// Go runs a part of the service until the test ends or stop is called.
func (r *Harness) Go(part func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(r.ctx)
	done := make(chan struct{})
	r.group.Go(func() {
		defer close(done)
		part(ctx)
	})
	return func() {
		cancel()
		<-done
	}
}

// Put creates or updates a Workflow, and waits until the service has seen it.
func (r *Harness) Put(name, spec string) *workflowv1.Workflow {
	r.T.Helper()
	w := &workflowv1.Workflow{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: r.Namespace}}
	err := r.Client.Get(r.ctx, client.ObjectKeyFromObject(w), w)
	w.Spec = workflowv1.WorkflowSpec{}
	must(r.T, json.Unmarshal([]byte(spec), &w.Spec))
	if err == nil {
		must(r.T, r.Client.Update(r.ctx, w))
	} else {
		must(r.T, r.Client.Create(r.ctx, w))
	}
	r.G.Eventually(func() bool {
		e, ok := r.Catalog.Get(name)
		return ok && e.Workflow.UID == w.UID && e.Workflow.Generation >= w.Generation
	}, Long, 5*time.Millisecond).Should(gomega.BeTrue())
	return w
}

// Start starts a run with the trigger type API.
func (r *Harness) Start(workflow string, inputs map[string]any) string {
	r.T.Helper()
	started, err := r.Launcher.Start(r.ctx, launch.Request{Workflow: workflow, Inputs: inputs, Info: definition.TriggerInfo{Type: "API"}})
	must(r.T, err)
	return started.ID
}

// Wait returns the run once it is in a phase.
func (r *Harness) Wait(id string, phase store.Phase) store.Run {
	r.T.Helper()
	var run store.Run
	r.G.Eventually(func() (store.Phase, error) {
		var err error
		run, err = r.Store().Get(r.ctx, id)
		return run.Phase, err
	}, Long, 5*time.Millisecond).Should(gomega.Equal(phase), func() string { return fmt.Sprintf("%+v", run) })
	return run
}

// Runs returns the runs of a workflow, newest first.
func (r *Harness) Runs(workflow string) []store.Run {
	r.T.Helper()
	list, _, err := r.Store().List(r.ctx, store.ListOptions{Workflow: workflow, Limit: 1000})
	must(r.T, err)
	return list
}

// Output returns a step's output as JSON, or nil if it has none yet.
func (r *Harness) Output(run, name string) json.RawMessage {
	r.T.Helper()
	list, _, err := r.Store().Steps(r.ctx, run, store.Cursor{Step: -1, Item: -1}, 1000)
	must(r.T, err)
	for _, s := range list {
		if s.Name == name && s.Item == -1 {
			return s.Output
		}
	}
	return nil
}
