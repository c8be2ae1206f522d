// SPDX-License-Identifier: Apache-2.0

// Command vaultctl seals values for Git, uses secrets of a Vault over REST, and verifies an exported audit log. It needs
// no kubectl and no cluster.
package main

import (
	"os"

	_ "golang.org/x/crypto/x509roots/fallback" // a scratch image has no CA roots

	"github.com/itechsmart/operator/workloads/vault/vaultctl/internal/cli"
)

// version is set by the linker.
var version = "dev"

func main() { os.Exit(cli.Main(version)) }
