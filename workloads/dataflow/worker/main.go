// SPDX-License-Identifier: Apache-2.0

// Command worker (dataflow-worker in its image) runs one pipeline from one configuration file. It is
// independent of Kubernetes.
package main

import (
	"os"
	_ "time/tzdata" // the image has no time zones

	_ "golang.org/x/crypto/x509roots/fallback" // the image has no CA roots

	"github.com/itechsmart/operator/workloads/dataflow/internal/worker"
)

// version is set by the linker.
var version = "dev"

func main() { os.Exit(worker.Main(version)) }
