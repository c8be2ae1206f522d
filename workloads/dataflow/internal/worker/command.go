// SPDX-License-Identifier: Apache-2.0

// Package worker is the pipeline worker's command line: it wires up the engine, the connectors, the transforms
// and the HTTP server.
package worker

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/itechsmart/operator/workloads/dataflow/internal/catalogue"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

type flags struct {
	version  string
	config   string
	listen   string
	logLevel string
	pprof    bool
}

// Main runs the command line until it ends or SIGTERM has been handled, and returns the exit code.
func Main(version string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := Command(version).ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "dataflow-worker:", err)
		return 1
	}
	return 0
}

// Command returns the command line; without a subcommand it does `run`.
func Command(version string) *cobra.Command {
	f := flags{version: version}
	run := &cobra.Command{
		Use: "run", Short: "Run the pipeline until SIGTERM, then drain", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runPipeline(cmd.Context(), f) },
	}
	check := &cobra.Command{
		Use: "check", Short: "Validate the configuration and run its tests; print the result as JSON", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runCheck(f, cmd.OutOrStdout(), terminationLog)
		},
	}
	root := &cobra.Command{
		Use: "dataflow-worker", Short: "Moves records from sources through transforms to sinks", Version: version,
		Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true, RunE: run.RunE,
	}
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	root.PersistentFlags().StringVar(&f.config, "config", filepath.Join("/etc/dataflow", config.FileName), "the pipeline's configuration file")
	for _, cmd := range []*cobra.Command{root, run} {
		cmd.Flags().StringVar(&f.listen, "listen", fmt.Sprintf(":%d", config.Port), "address of health, readiness, metrics and status")
		cmd.Flags().StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
		cmd.Flags().BoolVar(&f.pprof, "pprof", false, "serve /debug/pprof/; profiles may hold parts of records")
	}
	root.AddCommand(run, check, catalogueCommand())
	return root
}

func catalogueCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: "catalogue", Short: "Print all connectors, transforms and codecs with their schemas as JSON", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := catalogue.JSON()
			if err != nil {
				return err
			}
			if file != "" {
				return os.WriteFile(file, list, 0o644)
			}
			_, err = cmd.OutOrStdout().Write(list)
			return err
		},
	}
	c.Flags().StringVarP(&file, "output", "o", "", "write to a file instead")
	return c
}

func newLogger(level string) (*slog.Logger, error) {
	var parsed slog.Level
	if err := parsed.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level %q: want debug, info, warn or error", level)
	}
	return slog.New(slog.NewJSONHandler(os.Stdout, &slog.HandlerOptions{Level: parsed})), nil
}
