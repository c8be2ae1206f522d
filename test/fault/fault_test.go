// SPDX-License-Identifier: Apache-2.0

// Package fault crashes the manager at every write, and checks that a fresh one reaches the same end state.
package fault

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/itechsmart/operator/controllers"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/test/kube"
)

const (
	// timeout limits the time a manager takes to finish a cell.
	timeout  = 30 * time.Second
	interval = 50 * time.Millisecond
	// quiet is how long a manager writes nothing before act starts.
	quiet = 500 * time.Millisecond
	// cellsAtOnce is the number of concurrent cells, which mostly wait.
	cellsAtOnce = 6
)

// world is shared by all cells.
var world struct {
	*kube.Server
	scheme *runtime.Scheme
	mapper meta.RESTMapper
}

func TestMain(m *testing.M) {
	flag.Parse()
	ctrl.SetLogger(logr.Discard()) // dying managers log errors
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	world.scheme = runtime.NewScheme()
	err := controllers.AddToScheme(world.scheme)
	if err == nil {
		world.Server, err = kube.StartOwn(world.scheme)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fault:", err)
		return 1
	}
	defer func() { _ = world.Stop() }()
	defer servers.Close()
	if err = kube.Kubelet(ctx, world.Config, metav1.NamespaceAll); err == nil {
		world.mapper, err = kube.Mapper(world.Config)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fault:", err)
		return 1
	}
	return m.Run()
}

// scenario is one change to the resources of a namespace.
type scenario struct {
	// settle brings the namespace, with a running manager, to the state in which act starts.
	settle func(*cell)
	// act is the change that the crashing manager reacts to.
	act func(*cell)
	// done returns nil when the manager has nothing more to do.
	done func(*cell) error
}

// cell is one run of a scenario, in a namespace and with names of its own.
type cell struct {
	t         *testing.T
	ctx       context.Context
	namespace string
	// prefix starts the name of every topic and table.
	prefix string
}

func newCell(t *testing.T) *cell {
	t.Helper()
	namespace := world.Namespace(t, "fault")
	// The namespace's random suffix makes the prefix unlike anything else in the objects.
	return &cell{t: t, ctx: t.Context(), namespace: namespace, prefix: "zq" + strings.TrimPrefix(namespace, "fault-")}
}

func (c *cell) manager(crash *kube.Crash) (stop func()) {
	return kube.Manager{
		Config: world.Config, Scheme: world.scheme, Mapper: world.mapper, Crash: crash,
		Cache: controllers.CacheOptions([]string{c.namespace}),
		Setup: func(mgr manager.Manager) error {
			options := controllers.Options{Namespaces: []string{c.namespace}, DriftInterval: time.Hour}
			options.Images.Registry, options.Images.Tag = "test", "v1"
			return controllers.Setup(mgr, options)
		},
	}.Run(c.t)
}

// await waits until check returns nil.
func (c *cell) await(check func(*cell) error) { c.t.Helper(); c.until(kube.NewCrash(), check) }

// until waits until check returns nil, or for the crash.
func (c *cell) until(crash *kube.Crash, check func(*cell) error) (dead bool) {
	c.t.Helper()
	var err error
	for deadline := time.Now().Add(timeout); time.Now().Before(deadline); {
		if err = check(c); err == nil {
			return false
		}
		select {
		case <-crash.Dead():
			return true
		case <-time.After(interval):
		}
	}
	c.t.Fatalf("after %s: %v", timeout, err)
	return false
}

// play runs the scenario with a manager that crashes at a write, and a fresh one after it. It returns the end state, the
// writes of the first manager, and whether it crashed.
func (s scenario) play(t *testing.T, at string, when kube.When) (state map[string]string, writes []string, died bool) {
	t.Helper()
	c := newCell(t)
	crash := kube.NewCrash()
	stop := c.manager(crash)
	s.settle(c)
	c.await(func(*cell) error {
		if !crash.Quiet(quiet) {
			return errors.New("the manager does not stop writing")
		}
		return nil
	})
	crash.Arm(at, when)
	s.act(c)
	c.until(crash, s.done)
	stop()
	select {
	case <-crash.Dead():
		died = true
	default:
	}
	if died {
		stop = c.manager(nil)
		c.await(s.done)
		stop()
	}
	return c.state(), crash.Writes(), died
}

// everywhere runs the scenario once without faults, and then with a crash on either side of every write.
func (s scenario) everywhere(t *testing.T) {
	t.Helper()
	kube.EveryWrite(t, cellsAtOnce, s.play)
}
