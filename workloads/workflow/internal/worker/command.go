// SPDX-License-Identifier: Apache-2.0

// Package worker is the step worker: the engine, the step types, and the server for health and metrics.
package worker

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/itechsmart/operator/workloads/workflow/internal/steps"
	"github.com/itechsmart/operator/workloads/workflow/worker/config"
)

// Main runs the command line until it ends or is stopped by SIGTERM, and returns the exit code.
func Main(version string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := command(version).ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "workflow-worker:", err)
		return 1
	}
	return 0
}

// command returns the root command. Without a subcommand it executes run.
func command(version string) *cobra.Command {
	p := Process{Version: version}
	var directory string
	run := &cobra.Command{
		Use: "run", Short: "Execute steps until SIGTERM, then finish those in progress", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, unknown, err := config.Load(directory)
			if err != nil {
				return err
			}
			p.Config, p.Unknown = c, unknown
			return p.Run(cmd.Context())
		},
	}
	root := &cobra.Command{
		Use: "workflow-worker", Short: "Executes the steps of workflows", Version: version,
		Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true, RunE: run.RunE,
	}
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	for _, cmd := range []*cobra.Command{root, run} {
		cmd.Flags().StringVar(&directory, "config", config.Dir, "directory of the configuration file, "+config.FileName)
		cmd.Flags().StringVar(&p.BindingsDir, "bindings", config.BindingsDir, "directory of the connections file, "+config.BindingsName)
		cmd.Flags().StringVar(&p.Addr, "listen", fmt.Sprintf(":%d", config.Port), "address of health and readiness")
		cmd.Flags().StringVar(&p.MetricsAddr, "metrics-listen", fmt.Sprintf(":%d", config.MetricsPort), "address of the metrics; none when empty")
	}
	root.AddCommand(run, &cobra.Command{
		Use: "steps", Short: "List the step types", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return list(cmd.OutOrStdout()) },
	})
	return root
}

func list(to io.Writer) error {
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	for _, s := range steps.All() {
		fmt.Fprintf(table, "%s\t%s\n", s.Type, s.Summary)
	}
	return table.Flush()
}
