// SPDX-License-Identifier: Apache-2.0

// Command addons contains the Pods of the local cluster in one static binary: coredns, metrics-server and provisioner
// (selected by the first argument).
package main

import (
	"fmt"
	"os"

	_ "github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/ready"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/component-base/logs"
	metricsserver "sigs.k8s.io/metrics-server/cmd/metrics-server/app"

	"github.com/itechsmart/operator/hack/localcluster/internal/provisioner"
)

func main() {
	programs := map[string]func() error{
		"coredns":        func() error { coremain.Run(); return nil },
		"metrics-server": runMetricsServer,
		"provisioner":    func() error { return provisioner.Run(genericapiserver.SetupSignalContext(), os.Args[1:]) },
	}
	if len(os.Args) > 1 {
		if program, ok := programs[os.Args[1]]; ok {
			os.Args = os.Args[1:]
			if err := program(); err != nil {
				fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[0], err)
				os.Exit(1)
			}
			return
		}
	}
	fmt.Fprintln(os.Stderr, "usage: addons coredns|metrics-server|provisioner [ARGUMENT...]")
	os.Exit(2)
}

func runMetricsServer() error {
	logs.InitLogs()
	defer logs.FlushLogs()
	return metricsserver.NewMetricsServerCommand(genericapiserver.SetupSignalHandler()).Execute()
}
