// SPDX-License-Identifier: Apache-2.0

// Command manager runs every controller of the operator.
package main

import (
	"fmt"
	"os"
	"runtime/debug"
	_ "time/tzdata" // the image has no time zones

	_ "golang.org/x/crypto/x509roots/fallback" // nor certificate authorities
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/itechsmart/operator/controllers"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "manager:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	o, err := parse(args)
	if err != nil || o.done {
		return err
	}
	ctrl.SetLogger(o.logger())
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50) // most of the heap is caches, which live long: a quarter less memory for little work
	}
	scheme := runtime.NewScheme()
	if err := controllers.AddToScheme(scheme); err != nil {
		return err
	}
	kubeconfig, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("find the API server: %w", err)
	}
	// Leases are renewed on a client of their own, so that no burst of work delays them.
	leases := rest.CopyConfig(kubeconfig)
	options := o.managerOptions(scheme, leases)
	mgr, err := manager.New(kubeconfig, options)
	if err != nil {
		return fmt.Errorf("manager: %w", err)
	}
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return fmt.Errorf("health check: %w", err)
	}
	if err := mgr.AddReadyzCheck("caches", synced(mgr)); err != nil {
		return fmt.Errorf("readiness check: %w", err)
	}
	if hooks := o.controllers.Webhooks; hooks != nil {
		if err := mgr.AddReadyzCheck("webhooks", hooks.Ready); err != nil {
			return fmt.Errorf("readiness check: %w", err)
		}
	}
	if err := controllers.Setup(mgr, o.controllers); err != nil {
		return err
	}
	return mgr.Start(ctrl.SetupSignalHandler())
}
