// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	toolscache "k8s.io/client-go/tools/cache"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	dataflowv1alpha1 "github.com/itechsmart/operator/api/dataflow/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers"
	"github.com/itechsmart/operator/test/kube"
)

// BENCH_FULL=1 measures with ten times as many resources and foreign Secrets.
const (
	resourcesUsual, resourcesFull = 1_000, 10_000
	secretsUsual, secretsFull     = 3_000, 30_000
	// fresh is how many Pipelines are created while a manager starts.
	fresh = 50
	// creators is how many clients create resources.
	creators = 8
)

// fleet is the environment of BenchmarkControllers.
type fleet struct {
	*kube.Server
	program, kubeconfig string
	ready               *readiness
	resources, secrets  int
}

// BenchmarkControllers measures the table "Scale and cost": simulated Pods, everything else real. Each row has its
// target.
func BenchmarkControllers(b *testing.B) {
	f := newFleet(b)
	idle := startManager(b, f.program, f.kubeconfig)
	await(b, time.Minute, func() error { return errors.Join(idle.synced(b), idle.idle(b, 0)) })
	row(b, "memory idle", idle.memory(b), "MiB", 150)
	f.create(b, idle)
	idle.stop(b)
	before := f.restart(b)
	f.freshDuringRestart(b)
	f.foreignSecrets(b, before)
}

func row(b *testing.B, name string, value float64, unit string, target float64) {
	b.Run(name, func(b *testing.B) {
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(value, unit)
		b.ReportMetric(target, "target-"+unit)
	})
}

func newFleet(b *testing.B) *fleet {
	b.Helper()
	ctrl.SetLogger(logr.Discard())
	f := &fleet{resources: resourcesUsual, secrets: secretsUsual}
	if os.Getenv("BENCH_FULL") == "1" {
		f.resources, f.secrets = resourcesFull, secretsFull
	}
	scheme := runtime.NewScheme()
	err := controllers.AddToScheme(scheme)
	if err == nil {
		f.Server, err = kube.StartOwn(scheme)
	}
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	b.Cleanup(func() { cancel(); _ = f.Stop() })
	if err := kube.Kubelet(ctx, f.Config, metav1.NamespaceAll); err != nil {
		b.Fatal(err)
	}
	f.ready = watchReady(ctx, b, f)
	f.program = build(b, "./cmd/manager")
	f.kubeconfig = filepath.Join(b.TempDir(), "kubeconfig")
	if err := os.WriteFile(f.kubeconfig, f.Kubeconfig, 0o600); err != nil {
		b.Fatal(err)
	}
	return f
}

// create creates the mixed resources and waits until all are Ready.
func (f *fleet) create(b *testing.B, m *managerProcess) {
	objects := f.mixed(b)
	before, start := apiRequests(b, f.Server), time.Now()
	cpuBefore, _ := m.load(b)
	f.post(b, objects)
	f.ready.wait(b, objects, 15*time.Minute)
	took := time.Since(start)
	row(b, fmt.Sprintf("%d mixed resources to Ready", len(objects)), took.Seconds(), "s", target(f, 20, 250))
	await(b, time.Minute, func() error { return m.idle(b, 0) })
	asked := apiRequests(b, f.Server).since(before)
	writes, _ := asked.written()
	b.Logf("requests while %d resources were created: %v", len(objects), asked)
	row(b, "writes per resource, mixed", writes/float64(len(objects)), "writes", 6)
	metrics := m.scrape(b)
	for _, controller := range []string{"pipeline", "platform"} {
		_, _, p99 := passes(b, metrics, controller, 0.99)
		row(b, "reconcile p99 "+controller, p99, "ms", 100)
	}
	cpu, heap := m.load(b)
	b.Logf("the manager used %.1f s of processor time for %d resources in %.1f s; live heap %.0f MiB", cpu-cpuBefore, len(objects), took.Seconds(), heap)
	row(b, fmt.Sprintf("memory at %d after the burst", len(objects)), m.memory(b), "MiB", 300)
	f.writesPerCreate(b)
}

// writesPerCreate measures the writes of one create: Secret, Service, NetworkPolicy, Deployment and one status.
func (f *fleet) writesPerCreate(b *testing.B) {
	objects := make([]client.Object, 0, fresh)
	for i := range fresh {
		objects = append(objects, generator("bench-0", fmt.Sprintf("single-%d", i)))
	}
	before := apiRequests(b, f.Server)
	for _, obj := range objects {
		f.post(b, []client.Object{obj})
		f.ready.wait(b, []client.Object{obj}, time.Minute)
	}
	writes, status := apiRequests(b, f.Server).since(before).written()
	row(b, "writes per create of a Pipeline", writes/fresh, "writes", 5)
	row(b, "status writes per create of a Pipeline", status/fresh, "writes", 1)
	row(b, "create to Ready p99, one at a time", f.ready.p99(objects).Seconds(), "s", 2)
}

// restart measures a pass over resources in their desired state, and returns the memory after it.
func (f *fleet) restart(b *testing.B) float64 {
	before := apiRequests(b, f.Server)
	m := startManager(b, f.program, f.kubeconfig)
	await(b, 5*time.Minute, func() error { return m.idle(b, float64(f.pipelines())) })
	row(b, fmt.Sprintf("no-op pass after a restart at %d", f.resources), time.Since(m.started).Seconds(), "s", target(f, 3, 30))
	asked := apiRequests(b, f.Server).since(before)
	writes, _ := asked.written()
	b.Logf("requests while the manager started: %v", asked)
	row(b, "writes of a no-op pass", writes, "writes", 0)
	row(b, "live reads of a no-op pass", asked.read(), "reads", 0)
	metrics := m.scrape(b)
	count, mean, p99 := passes(b, metrics, "pipeline", 0.99)
	_, _, median := passes(b, metrics, "pipeline", 0.5)
	_, _, p98 := passes(b, metrics, "pipeline", 0.98)
	_, _, slowest := passes(b, metrics, "pipeline", 1)
	cpu, heap := m.load(b)
	b.Logf("%v passes over Pipelines that changed nothing, mean %.2f ms, median %.2f ms, p98 %.2f ms, slowest %.2f ms; %.1f s of processor time since the start; live heap %.0f MiB", count, mean, median, p98, slowest, cpu, heap)
	row(b, "no-op reconcile median", median, "ms", 2)
	row(b, "no-op reconcile p99, ten at once on these cores", p99, "ms", 2)
	memory := m.memory(b)
	row(b, fmt.Sprintf("memory at %d after a restart", f.resources), memory, "MiB", 300)
	m.profile(b)
	m.stop(b)
	return memory
}

// freshDuringRestart creates Pipelines while a manager starts: none waits for those that are done.
func (f *fleet) freshDuringRestart(b *testing.B) {
	objects := make([]client.Object, 0, fresh)
	for i := range fresh {
		objects = append(objects, generator("bench-0", fmt.Sprintf("fresh-%d", i)))
	}
	m := startManager(b, f.program, f.kubeconfig) // its first passes run when this returns
	f.post(b, objects)
	f.ready.wait(b, objects, 5*time.Minute)
	row(b, "new resource during a restart to Ready p99", f.ready.p99(objects).Seconds(), "s", 2)
	m.stop(b)
}

// foreignSecrets compares the memory of fresh managers without and with Secrets that are not theirs.
func (f *fleet) foreignSecrets(b *testing.B, without float64) {
	b.Logf("creating %d foreign Secrets", f.secrets)
	f.namespace(b, "foreign")
	objects := make([]client.Object, 0, f.secrets)
	for i := range f.secrets {
		objects = append(objects, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "foreign", Name: fmt.Sprintf("foreign-%d", i)}, Data: map[string][]byte{"data": make([]byte, 4096)},
		})
	}
	f.post(b, objects)
	m := startManager(b, f.program, f.kubeconfig)
	await(b, 5*time.Minute, func() error { return m.idle(b, float64(f.pipelines())) })
	_, heap := m.load(b)
	memory := m.memory(b)
	b.Logf("%d foreign Secrets of 4 KiB add %.0f MiB; live heap %.0f MiB", f.secrets, memory-without, heap)
	row(b, fmt.Sprintf("memory at %d with %d foreign Secrets", f.resources, f.secrets), memory, "MiB", 300)
	m.stop(b)
}

func target(f *fleet, usual, full float64) float64 {
	if f.resources == resourcesFull {
		return full
	}
	return usual
}

// post creates the objects with a few concurrent clients.
func (f *fleet) post(b *testing.B, objects []client.Object) {
	b.Helper()
	var group sync.WaitGroup
	queue := make(chan client.Object)
	for range creators {
		group.Go(func() {
			for obj := range queue {
				f.ready.made(obj)
				if err := f.Client.Create(context.Background(), obj); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for _, obj := range objects {
		queue <- obj
	}
	close(queue)
	group.Wait()
	if b.Failed() {
		b.FailNow()
	}
}

// readiness records when resources became Ready.
type readiness struct {
	mu    sync.Mutex
	begun map[string]time.Time
	since map[string]time.Time
}

func nameOf(obj client.Object) string {
	return fmt.Sprintf("%T %s/%s", obj, obj.GetNamespace(), obj.GetName())
}

func watchReady(ctx context.Context, b *testing.B, f *fleet) *readiness {
	b.Helper()
	r := &readiness{begun: map[string]time.Time{}, since: map[string]time.Time{}}
	c, err := cache.New(f.Config, cache.Options{Scheme: f.Client.Scheme()})
	if err != nil {
		b.Fatal(err)
	}
	go func() { _ = c.Start(ctx) }()
	for _, kind := range []client.Object{&dataflowv1alpha1.Pipeline{}, &platformv1alpha1.Platform{}} {
		informer, err := c.GetInformer(ctx, kind)
		if err != nil {
			b.Fatal(err)
		}
		_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{AddFunc: r.note, UpdateFunc: func(_, obj any) { r.note(obj) }})
		if err != nil {
			b.Fatal(err)
		}
	}
	return r
}

func (r *readiness) made(obj client.Object) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun[nameOf(obj)] = time.Now()
}

func (r *readiness) note(obj any) {
	resource, ok := obj.(interface {
		client.Object
		common.ConditionedObject
	})
	if !ok || !meta.IsStatusConditionTrue(*resource.GetConditions(), common.ConditionReady) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if name := nameOf(resource); r.since[name].IsZero() {
		r.since[name] = time.Now()
	}
}

func (r *readiness) wait(b *testing.B, objects []client.Object, timeout time.Duration) {
	b.Helper()
	for deadline := time.Now().Add(timeout); ; time.Sleep(5 * time.Millisecond) { // the polling interval
		r.mu.Lock()
		objects = slices.DeleteFunc(slices.Clone(objects), func(obj client.Object) bool {
			_, isSecret := obj.(*corev1.Secret)
			return isSecret || !r.since[nameOf(obj)].IsZero()
		})
		r.mu.Unlock()
		if len(objects) == 0 {
			return
		}
		if time.Now().After(deadline) {
			b.Fatalf("after %s %d are not Ready, such as %s", timeout, len(objects), nameOf(objects[0]))
		}
	}
}

// p99 returns the 99th percentile of the time from the request to Ready.
func (r *readiness) p99(objects []client.Object) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	took := make([]time.Duration, 0, len(objects))
	for _, obj := range objects {
		took = append(took, r.since[nameOf(obj)].Sub(r.begun[nameOf(obj)]))
	}
	slices.Sort(took)
	return took[(len(took)*99+99)/100-1]
}
