// SPDX-License-Identifier: Apache-2.0

// Command vault runs the Vault service of one Platform.
package main

import (
	_ "time/tzdata" // the image has no time zones

	_ "golang.org/x/crypto/x509roots/fallback" // the image has no CA roots

	"github.com/itechsmart/operator/workloads/internal/product"
	"github.com/itechsmart/operator/workloads/vault/internal/service"
)

// version is set by the linker.
var version = "dev"

func main() { product.Main(service.Product(), version) }
