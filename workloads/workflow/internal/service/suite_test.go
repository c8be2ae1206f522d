// SPDX-License-Identifier: Apache-2.0

package service

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	workflowv1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/db"
	"github.com/itechsmart/operator/workloads/internal/product/producttest"
	workflowconfig "github.com/itechsmart/operator/workloads/workflow/config"
	"github.com/itechsmart/operator/workloads/workflow/internal/engine"
	"github.com/itechsmart/operator/workloads/workflow/internal/enginetest"
	"github.com/itechsmart/operator/workloads/workflow/internal/payloads"
	"github.com/itechsmart/operator/workloads/workflow/internal/queue"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/step"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
	"github.com/itechsmart/operator/workloads/workflow/internal/storetest"
	workerconfig "github.com/itechsmart/operator/workloads/workflow/worker/config"
)

func TestMain(m *testing.M) { enginetest.Main(m) }

// harness is a service with its database, queue and API server, and a worker.
type harness struct {
	*producttest.Running
	kubernetes       client.Client
	bindings         string
	viewer, editor   string // tokens
	approver, nobody string
}

func settingsOn(t testing.TB, rabbit backend.Binding) *config.Service {
	t.Helper()
	s := producttest.Settings(productName, storetest.Database(t), storetest.Database(t))
	s.Queue, s.URL = &config.Queue{Binding: rabbit.Data(), Name: backendtest.Name("tasks")}, "http://workflow.shop.svc"
	return s
}

// up runs a service and a worker until the test ends.
func up(t *testing.T) *harness {
	t.Helper()
	return upOn(t, settingsOn(t, servers.RabbitMQ(t)))
}

func upOn(t *testing.T, settings *config.Service) *harness {
	t.Helper()
	r := &harness{bindings: t.TempDir()}
	var reach *rest.Config
	reach, r.kubernetes, settings.Namespace = kubernetes(t)
	r.Running = producttest.Start(t, productOf(r.bindings), settings, reach)
	work(t, settings)
	r.viewer, r.editor = r.Register("viewer@example.com", "viewer"), r.Register("editor@example.com", "editor")
	r.approver, r.nobody = r.Register("boss@example.com", "viewer"), r.Register("eve@example.com", "")
	return r
}

// work executes steps like the worker.
func work(t *testing.T, settings *config.Service) {
	t.Helper()
	pool, err := db.Open(context.Background(), settings.Database, "worker")
	if err != nil {
		t.Fatal(err)
	}
	q, err := queue.New(queue.Options{Binding: backend.ParseBinding(settings.Queue.Binding), Name: settings.Queue.Name})
	if err != nil {
		t.Fatal(err)
	}
	bucket, err := payloads.Open(settings.Objects)
	if err != nil {
		t.Fatal(err)
	}
	own, _, err := config.Settings[workflowconfig.Settings](settings)
	if err != nil {
		t.Fatal(err)
	}
	set := steps.New(step.Env{MaxOutput: own.MaxOutputBytes})
	e := engine.New(engine.Options{Pool: pool, Queue: q, Bucket: bucket, Executor: set, Store: store.Options{MaxOutput: own.MaxOutputBytes},
		Namespace: settings.Namespace, Sweep: 20 * time.Millisecond})
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { e.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		group.Wait()
		_ = set.Close()
		pool.Close()
	})
}

// kubernetes returns a client of the shared API server, and a new namespace.
func kubernetes(t *testing.T) (settings *rest.Config, c client.Client, namespace string) {
	t.Helper()
	settings = enginetest.Cluster(t)
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{workflowv1.AddToScheme, corev1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	c, err := client.New(settings, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	namespace = strings.ReplaceAll(backendtest.Name("wf"), "_", "-")
	if err := c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
		t.Fatal(err)
	}
	return settings, c, namespace
}

// put writes a workflow with the REST API, and waits until the service serves it.
func (r *harness) put(name, spec string) {
	r.T.Helper()
	if a := r.Call(r.editor, "PUT", "/workflows/"+name, `{"spec":`+spec+`}`); a.Status != 201 && a.Status != 200 {
		r.T.Fatalf("put %s: %d %s", name, a.Status, a.Body)
	} else {
		tag := a.Header.Get("ETag")
		r.Wait("the service to serve "+name, func() bool { return r.Call(r.viewer, "GET", "/workflows/"+name, nil).Header.Get("ETag") == tag })
	}
}

// start starts a run as the editor.
func (r *harness) start(name, body string) Run {
	r.T.Helper()
	return producttest.Must[Run](r.Running, 201, r.editor, "POST", "/workflows/"+name+"/runs", body)
}

// ended waits for the end of a run.
func (r *harness) ended(id string) Run {
	return r.reached(id, "Succeeded", "Failed", "Cancelled", "TimedOut")
}

func (r *harness) reached(id string, phases ...string) (run Run) {
	r.T.Helper()
	r.Wait("run "+id+" to be one of "+phases[0], func() bool {
		run = producttest.Must[Run](r.Running, 200, r.viewer, "GET", "/runs/"+id, nil)
		for _, p := range phases {
			if run.Phase == p {
				return true
			}
		}
		return false
	})
	return run
}

// bind writes the bindings file like the kubelet: it replaces the old file.
func (r *harness) bind(b workerconfig.Bindings) {
	r.T.Helper()
	data, err := json.Marshal(b)
	if err != nil {
		r.T.Fatal(err)
	}
	path := filepath.Join(r.bindings, workerconfig.BindingsName)
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		r.T.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		r.T.Fatal(err)
	}
}

func contains(data []byte, text string) bool { return bytes.Contains(data, []byte(text)) }
