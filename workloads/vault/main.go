// SPDX-License-Identifier: Apache-2.0

// Command vault (vault-service in its image) keeps the secrets of one Platform.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // the image has no time zones

	_ "golang.org/x/crypto/x509roots/fallback" // the image has no CA roots

	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/vault/internal/service"
)

// version is set by the linker.
var version = "dev"

func main() {
	var flags service.Flags
	flag.StringVar(&flags.Config, "config", config.Dir, "directory of the configuration's file, "+config.FileName)
	flag.StringVar(&flags.Kubeconfig, "kubeconfig", "", "kubeconfig; the Pod's own account when empty, and no Kubernetes outside of a Pod")
	flag.StringVar(&flags.Listen, "listen", fmt.Sprintf(":%d", config.Port), "address of REST")
	flag.StringVar(&flags.MetricsListen, "metrics-listen", fmt.Sprintf(":%d", config.MetricsPort), "address of the metrics; none when empty")
	flag.StringVar(&flags.Spill, "spill", config.SpillDir+"/audit", "directory of what the audit log cannot hand over yet")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := service.Main(ctx, flags, version); err != nil {
		fmt.Fprintln(os.Stderr, "vault-service:", err)
		os.Exit(1) //nolint:gocritic // the signals end with the process
	}
}
