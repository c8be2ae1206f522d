// SPDX-License-Identifier: Apache-2.0

// Command worker (workflow-worker in its image) executes the steps of one Platform's workflows. It does not use Kubernetes.
package main

import (
	"os"
	_ "time/tzdata" // the image has no time zones

	_ "golang.org/x/crypto/x509roots/fallback" // the image has no CA roots

	"github.com/itechsmart/operator/workloads/workflow/internal/worker"
)

// version is set by the linker.
var version = "dev"

func main() { os.Exit(worker.Main(version)) }
