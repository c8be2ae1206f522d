// SPDX-License-Identifier: Apache-2.0

// Command localcluster builds and runs a one-node Kubernetes on this machine, from package registries alone.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/itechsmart/operator/hack/localcluster/internal/build"
	"github.com/itechsmart/operator/hack/localcluster/internal/cluster"
	"github.com/itechsmart/operator/hack/localcluster/internal/layout"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := command().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "localcluster:", err)
		os.Exit(1)
	}
}

// errDown makes status exit with code 1; the table has the details.
var errDown = errors.New("not all components are up")

func command() *cobra.Command {
	var root string
	c := &cobra.Command{
		Use:           "localcluster",
		Short:         "A one-node Kubernetes " + layout.KubernetesVersion + " on this machine, built from Go modules",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	c.PersistentFlags().StringVar(&root, "root", os.Getenv("LOCALCLUSTER_ROOT"),
		"the checkout (default: LOCALCLUSTER_ROOT, or the nearest directory upwards that contains hack/localcluster)")
	find := func() (layout.Layout, error) {
		dir, err := os.Getwd()
		if err != nil {
			return layout.Layout{}, err
		}
		return layout.Find(root, dir)
	}
	locked := func(run func(context.Context, *cluster.Cluster, []string) error) func(*cobra.Command, []string) error {
		return func(cmd *cobra.Command, args []string) error {
			l, err := find()
			if err != nil {
				return err
			}
			cl := cluster.New(l, cmd.OutOrStdout())
			unlock, err := cl.Lock()
			if err != nil {
				return err
			}
			defer unlock()
			return run(cmd.Context(), cl, args)
		}
	}
	c.AddCommand(buildCommand(find), envtestCommand(find), statusCommand(find), upCommand(locked), downCommand(locked), loadCommand(locked))
	c.AddCommand(componentCommands(locked)...)
	return c
}

type (
	finder = func() (layout.Layout, error)
	locker = func(func(context.Context, *cluster.Cluster, []string) error) func(*cobra.Command, []string) error
)

func buildCommand(find finder) *cobra.Command {
	return &cobra.Command{
		Use: "build", Short: "Install missing Debian packages and build the programs", Args: cobra.NoArgs,
		Long: "Installs the Debian packages that the node needs and builds Kubernetes, etcd, CoreDNS, metrics-server and this\n" +
			"program to .local/bin. Programs that are newer than their sources are not rebuilt. A first build takes about six minutes\n" +
			"on two cores.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := find()
			if err != nil {
				return err
			}
			if err := build.Packages(cmd.Context(), cmd.OutOrStdout()); err != nil {
				return err
			}
			return build.Programs(cmd.Context(), l, cmd.OutOrStdout())
		},
	}
}

func envtestCommand(find finder) *cobra.Command {
	return &cobra.Command{
		Use: "envtest", Short: "Print the assets directory for KUBEBUILDER_ASSETS", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := find()
			if err != nil {
				return err
			}
			if err := build.Envtest(l); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), l.Envtest())
			return err
		},
	}
}

func statusCommand(find finder) *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show the components; exit code 1 if any is down", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := find()
			if err != nil {
				return err
			}
			up, err := cluster.New(l, cmd.OutOrStdout()).Status(cmd.Context(), cmd.OutOrStdout())
			if err == nil && !up {
				err = errDown
			}
			return err
		},
	}
}

func upCommand(locked locker) *cobra.Command {
	var wait time.Duration
	c := &cobra.Command{
		Use: "up", Short: "Start what is not running and wait until the cluster works", Args: cobra.NoArgs,
		Long: "Starts every component that is not running, applies the add-ons, and waits until node, DNS, metrics and volumes\n" +
			"work. The administrator's kubeconfig is .local/kubeconfig. Needs root.",
	}
	c.RunE = locked(func(ctx context.Context, cl *cluster.Cluster, _ []string) error {
		ctx, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		return cl.Up(ctx)
	})
	c.Flags().DurationVar(&wait, "wait", 5*time.Minute, "how long to wait for everything")
	return c
}

func downCommand(locked locker) *cobra.Command {
	var purge bool
	c := &cobra.Command{
		Use: "down", Short: "Stop everything and remove every trace of it", Args: cobra.NoArgs,
		Long: "Stops all components and pods, and removes mounts, network, packet filter rules, cgroups and the cluster's state\n" +
			"with all its volumes. Programs and images are kept.",
	}
	c.RunE = locked(func(ctx context.Context, cl *cluster.Cluster, _ []string) error { return cl.Down(ctx, purge) })
	c.Flags().BoolVar(&purge, "purge", false, "remove the images too")
	return c
}

func loadCommand(locked locker) *cobra.Command {
	return &cobra.Command{
		Use: "load FILE.tar...", Short: "Import image tarballs (docker format or OCI layout)", Args: cobra.MinimumNArgs(1),
		Long: "Imports image tarballs for pods to use with imagePullPolicy IfNotPresent or Never. A tarball of the same content\n" +
			"is imported once. An image of an OCI layout takes its name from the annotation io.containerd.image.name.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return locked(func(ctx context.Context, cl *cluster.Cluster, files []string) error {
				return cl.Load(ctx, files, cmd.OutOrStdout())
			})(cmd, args)
		},
	}
}

func componentCommands(locked locker) []*cobra.Command {
	one := func(use, short string, run func(*cluster.Cluster, context.Context, string) error) *cobra.Command {
		return &cobra.Command{
			Use: use + " COMPONENT", Short: short, Args: cobra.ExactArgs(1),
			RunE: locked(func(ctx context.Context, cl *cluster.Cluster, args []string) error {
				ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
				defer cancel()
				return run(cl, ctx, args[0])
			}),
		}
	}
	all := (*cluster.Cluster).KillAll
	return []*cobra.Command{
		one("start", "Restart a component and wait until it works", (*cluster.Cluster).Start),
		one("stop", "Stop a component", (*cluster.Cluster).Stop),
		one("kill", "Kill a component (or all) with SIGKILL, like a crash", func(cl *cluster.Cluster, ctx context.Context, name string) error {
			if name == "all" {
				return all(cl, ctx)
			}
			return cl.Kill(ctx, name)
		}),
	}
}
