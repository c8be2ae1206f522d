// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

// Manager runs a manager, possibly until it crashes.
type Manager struct {
	Config *rest.Config
	Scheme *apiruntime.Scheme
	Cache  cache.Options
	// Mapper saves each manager the discovery; nil: its own.
	Mapper meta.RESTMapper
	// Setup adds the controllers.
	Setup func(manager.Manager) error
	// Crash decides when it crashes; nil: never.
	Crash *Crash
}

// Mapper discovers all kinds of the server once.
func Mapper(cfg *rest.Config) (meta.RESTMapper, error) {
	httpClient, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("mapper: %w", err)
	}
	return apiutil.NewDynamicRESTMapper(cfg, httpClient)
}

// Run starts the manager, and returns what stops it. A manager that has crashed is already stopped.
func (m Manager) Run(t testing.TB) (stop func()) {
	t.Helper()
	yes, grace := true, 5*time.Second
	options := ctrl.Options{
		Scheme: m.Scheme, Cache: m.Cache, Metrics: metricsserver.Options{BindAddress: "0"}, GracefulShutdownTimeout: &grace,
		Controller: config.Controller{SkipNameValidation: &yes},
	}
	if m.Mapper != nil {
		options.MapperProvider = func(*rest.Config, *http.Client) (meta.RESTMapper, error) { return m.Mapper, nil }
	}
	ctx, cancel := context.WithCancel(context.Background())
	if m.Crash != nil {
		options.NewClient = m.Crash.NewClient
		m.Crash.OnDeath(cancel)
	}
	mgr, err := ctrl.NewManager(m.Config, options)
	if err == nil {
		err = m.Setup(mgr)
	}
	if err != nil {
		cancel()
		t.Fatalf("manager: %v", err)
	}
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
