// SPDX-License-Identifier: Apache-2.0

// Command images builds the container images without a registry or docker, and makes the same servers runnable on this
// machine.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/itechsmart/operator/hack/images/internal/build"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		stop()
		os.Exit(1) //nolint:gocritic // exitAfterDefer: stop has run
	}
}

// module is the line that identifies the root of the repository.
const module = "module github.com/itechsmart/operator"

type flags struct {
	root, out string
	force     bool
	jobs      int
}

func command() *cobra.Command {
	var f flags
	root := &cobra.Command{
		Use: "images", Short: "Container images without a registry, and the same servers natively",
		SilenceUsage: true, SilenceErrors: true,
	}
	root.PersistentFlags().StringVar(&f.root, "root", "", "root of the repository (default: found upwards from here)")
	buildCmd := &cobra.Command{
		Use: "build [NAME…]", Short: "Write the tarballs of the images, all of them without a name",
		Long: "Writes OUT/NAME.tar, which docker load and ctr images import read. The same inputs give the same\n" +
			"digest. An image whose inputs have not changed since is kept. \"programs\" names all images of the operator's\n" +
			"programs, \"others\" the rest.",
		RunE: func(cmd *cobra.Command, args []string) error { return f.build(cmd.Context(), cmd.OutOrStdout(), args) },
	}
	buildCmd.Flags().StringVar(&f.out, "out", ".local/images", "where the tarballs go, relative to the root")
	buildCmd.Flags().BoolVar(&f.force, "force", false, "also build what has not changed")
	buildCmd.Flags().IntVar(&f.jobs, "jobs", 2, "images built concurrently")
	list := &cobra.Command{
		Use: "list", Short: "List the images", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := f.findRoot()
			if err != nil {
				return err
			}
			all, err := build.All(cmd.Context(), dir)
			if err != nil {
				return err
			}
			table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 4, 2, ' ', 0)
			for _, image := range all {
				fmt.Fprintf(table, "%s\t%s\n", image.Name, image.Ref)
			}
			return table.Flush()
		},
	}
	servers := &cobra.Command{
		Use: "servers", Short: "Make the servers runnable on this machine, under .local/servers", Args: cobra.NoArgs,
		Long: "Installs the Debian packages that are missing (as root or by sudo; nothing is started), fetches Kafka and\n" +
			"the ClickHouse library, builds the ClickHouse server, and writes .local/servers/serve and servers.json.",
		RunE: func(cmd *cobra.Command, _ []string) error { return f.servers(cmd.Context(), cmd.OutOrStdout()) },
	}
	root.AddCommand(buildCmd, list, servers)
	return root
}

func (f flags) env(log io.Writer) (*build.Env, error) {
	root, err := f.findRoot()
	if err != nil {
		return nil, err
	}
	out := f.out
	if !filepath.IsAbs(out) {
		out = filepath.Join(root, out)
	}
	return build.NewEnv(root, out, log)
}

func (f flags) findRoot() (string, error) {
	start := f.root
	if start == "" {
		start = "."
	}
	dir, err := filepath.Abs(start)
	if err != nil {
		return "", err
	}
	for {
		if isRoot(dir) {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if f.root != "" || parent == dir {
			return "", fmt.Errorf("--root: %s is not the root of the repository (no go.mod with %q)", start, module)
		}
		dir = parent
	}
}

func isRoot(dir string) bool {
	file, err := os.Open(filepath.Join(dir, "go.mod"))
	if err != nil {
		return false
	}
	defer file.Close()
	line, _ := bufio.NewReader(file).ReadString('\n')
	return strings.TrimSpace(line) == module
}

func (f flags) build(ctx context.Context, out io.Writer, names []string) error {
	if f.jobs < 1 {
		return fmt.Errorf("--jobs: %d is less than 1", f.jobs)
	}
	env, err := f.env(os.Stderr)
	if err != nil {
		return err
	}
	defer env.Close()
	all, err := build.All(ctx, env.Root)
	if err != nil {
		return err
	}
	chosen, err := build.Find(all, names)
	if err != nil {
		return err
	}
	results, errs := build.Build(ctx, env, chosen, f.force, f.jobs)
	table := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tIMAGE\tDIGEST\tSIZE\tTIME")
	for _, r := range results {
		if r.Name == "" {
			continue
		}
		took := r.Took.Round(10 * time.Millisecond).String()
		if r.Kept {
			took += " (kept)"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%.1f MB\t%s\n", r.Name, r.Ref, r.Digest, float64(r.Size)/1e6, took)
	}
	return errors.Join(append(errs, table.Flush())...)
}

func (f flags) servers(ctx context.Context, out io.Writer) error {
	f.out = ".local/images"
	env, err := f.env(os.Stderr)
	if err != nil {
		return err
	}
	defer env.Close()
	file, err := build.Servers(ctx, env)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, file)
	return err
}
