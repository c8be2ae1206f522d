// SPDX-License-Identifier: Apache-2.0

package product

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/server"
)

// Main is the main function of a service: flags, configuration, signals. It does not return.
func Main(p Product, version string) {
	process := Process{Product: p, Version: version, Lines: os.Stdout}
	directory := flag.String("config", config.Dir, "directory of the configuration file, "+config.FileName)
	kubeconfig := flag.String("kubeconfig", "", "kubeconfig; when empty, the Pod's ServiceAccount, and outside a Pod no Kubernetes")
	flag.StringVar(&process.Addr, "listen", fmt.Sprintf(":%d", config.Port), "address of REST")
	flag.StringVar(&process.MetricsAddr, "metrics-listen", fmt.Sprintf(":%d", config.MetricsPort), "address of the metrics; none when empty")
	flag.StringVar(&process.SpillDir, "spill", config.SpillDir+"/audit", "directory of audit events that the database has not stored yet")
	showVersion := flag.Bool("version", false, "print the version and exit")
	flag.Parse()
	if *showVersion {
		fmt.Println(p.Name, version)
		os.Exit(0)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := process.load(*directory, *kubeconfig)
	if err == nil {
		err = process.Run(ctx)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, p.Name+":", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// load reads the configuration.
func (p *Process) load(directory, kubeconfig string) error {
	c, unknown, err := config.Load(directory)
	if err != nil {
		return err
	}
	if c.Product != p.Product.Name {
		return fmt.Errorf("the configuration is for product %q", c.Product)
	}
	p.Config, p.Unknown, p.Log = c, unknown, server.NewLogger(c.LogLevel)
	if p.Kubernetes, err = kubernetes(kubeconfig); err != nil {
		return fmt.Errorf("kubernetes: %w", err)
	}
	return nil
}

// kubernetes reads a kubeconfig, or uses the Pod's ServiceAccount; nil outside a cluster.
func kubernetes(kubeconfig string) (*rest.Config, error) {
	if kubeconfig != "" {
		return clientcmd.BuildConfigFromFlags("", kubeconfig)
	}
	c, err := rest.InClusterConfig()
	if errors.Is(err, rest.ErrNotInCluster) {
		return nil, nil
	}
	return c, err
}
