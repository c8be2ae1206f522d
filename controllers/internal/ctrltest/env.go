// SPDX-License-Identifier: Apache-2.0

// Package ctrltest runs controllers against a real API server (envtest) and
// compares what they render with golden files.
package ctrltest

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"

	"github.com/itechsmart/operator/controllers/internal/setup"
	"github.com/itechsmart/operator/test/kube"
)

// Timeout and Interval are for Eventually.
const (
	Timeout  = 20 * time.Second
	Interval = 20 * time.Millisecond
)

// shared is the API server.
var shared struct {
	config *rest.Config
	client client.Client
}

// Main runs the tests with an API server that has the project's CRDs. TestMain calls it.
func Main(m *testing.M) {
	flag.Parse()
	ctrl.SetLogger(logr.FromSlogHandler(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level()})))
	os.Exit(run(m))
}

func level() slog.Level {
	if testing.Verbose() {
		return slog.LevelInfo
	}
	return slog.LevelError + 1
}

func run(m *testing.M) int {
	flag.Parse()
	if worker := flag.Lookup("test.fuzzworker"); worker != nil && worker.Value.String() == "true" {
		return m.Run() // fuzz targets need no API server, and each worker is a process of its own
	}
	server, err := kube.Start(Scheme())
	if err != nil {
		fmt.Fprintln(os.Stderr, "ctrltest:", err)
		return 1
	}
	shared.config, shared.client = server.Config, server.Client
	code := m.Run()
	if err := server.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "ctrltest: stop:", err)
	}
	return code
}

// Root returns the repository's directory.
func Root() string { return kube.Root() }

//go:generate go run github.com/itechsmart/operator/hack/groups -root ../../.. -package ctrltest -o zz_generated.groups.go

// Scheme returns a scheme with every kind that controllers use.
func Scheme() *apiruntime.Scheme {
	scheme := apiruntime.NewScheme()
	for _, add := range append(groups(), clientgoscheme.AddToScheme, gatewayv1beta1.Install) {
		if err := add(scheme); err != nil {
			panic(err) // a programming error, in tests only
		}
	}
	return scheme
}

// Env returns an uncached client and the server's configuration.
func Env(t testing.TB) (client.Client, *rest.Config) {
	t.Helper()
	if shared.client == nil {
		t.Fatal("ctrltest: TestMain does not call ctrltest.Main")
	}
	return shared.client, rest.CopyConfig(shared.config)
}

// Namespace creates a namespace for the test. (The test server has no namespace controller: it
// stays until the server stops.)
func Namespace(t testing.TB) string {
	t.Helper()
	c, _ := Env(t)
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}
	if err := c.Create(context.Background(), ns); err != nil {
		t.Fatalf("create namespace: %v", err)
	}
	return ns.Name
}

// Start runs controller sets in a manager that watches options.Namespaces, until the returned
// function, or the end of the test, stops it. config is Env's, or one that counts its requests.
func Start(t testing.TB, cfg *rest.Config, options setup.Options, sets ...func(*setup.Deps) error) (stop func()) {
	t.Helper()
	yes := true
	managed := ctrl.Options{
		Scheme: Scheme(), Cache: setup.CacheOptions(options.Namespaces),
		Metrics:    metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: &yes},
	}
	if options.Webhooks != nil {
		options.Webhooks.Configure(&managed)
	}
	mgr, err := ctrl.NewManager(late(cfg), managed)
	if err != nil {
		t.Fatalf("manager: %v", err)
	}
	deps, err := setup.New(mgr, options)
	if err != nil {
		t.Fatalf("setup: %v", err)
	}
	for _, set := range sets {
		if err := set(deps); err != nil {
			t.Fatalf("setup: %v", err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("manager: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// Seen waits until a manager's cache has an object as it was last written. Only then do controllers depend on it, whatever
// the order of other watch events.
func Seen(t testing.TB, cache client.Reader, written client.Object) {
	t.Helper()
	wait(t, cache, written, func(found client.Object, err error) bool {
		return err == nil && found.GetResourceVersion() == written.GetResourceVersion()
	})
}

// Unseen waits until a manager's cache no longer has an object.
func Unseen(t testing.TB, cache client.Reader, deleted client.Object) {
	t.Helper()
	wait(t, cache, deleted, func(_ client.Object, err error) bool { return apierrors.IsNotFound(err) })
}

func wait(t testing.TB, cache client.Reader, obj client.Object, ok func(found client.Object, err error) bool) {
	t.Helper()
	for deadline := time.Now().Add(Timeout); ; time.Sleep(Interval) {
		found := obj.DeepCopyObject().(client.Object)
		err := cache.Get(context.Background(), client.ObjectKeyFromObject(obj), found)
		if ok(found, err) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the cache does not come to have what was done to %T %q: version %q, %v", obj, obj.GetName(), found.GetResourceVersion(), err)
		}
	}
}
