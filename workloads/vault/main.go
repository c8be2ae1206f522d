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
	dir := flag.String("config", config.Dir, "directory of the configuration's file, "+config.FileName)
	kubeconfig := flag.String("kubeconfig", "", "kubeconfig; the Pod's own account when empty, and no Kubernetes outside of a Pod")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := service.Main(ctx, *dir, *kubeconfig, version); err != nil {
		fmt.Fprintln(os.Stderr, "vault-service:", err)
		os.Exit(1) //nolint:gocritic // the signals end with the process
	}
}
