// SPDX-License-Identifier: Apache-2.0

// Command up brings up a Kubernetes node on this machine, the operator on it, and the quickstart: `make up` runs it. Each
// step does only what is not done yet, so that up can be run again at any time.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "\nup:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("up", flag.ContinueOnError)
	quickstart := flags.Bool("quickstart", true, "apply config/samples/quickstart and load the flights")
	if err := flags.Parse(args); err != nil {
		return err
	}
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(root, "hack", "up")); err != nil {
		return errors.New("run it from the root of the checkout: make up")
	}
	u, err := newUp(root)
	if err != nil {
		return err
	}
	lock, err := u.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	steps := []step{
		{"Build the node and the servers' images", u.buildNode, "the log named above; the first build takes several minutes"},
		{"Start the node, build the operator's images", u.startNode, ".local/bin/localcluster status, and the logs in .local/cluster/log and .local/up"},
		{"Load the images", u.loadImages, ".local/bin/localcluster status"},
		{"Install the operator", u.installOperator, u.kubectlLine("-n", operatorNamespace, "describe", "pods")},
	}
	if *quickstart {
		q := &quickstartRun{up: u}
		steps = append(steps,
			step{"Apply the quickstart", q.apply, u.kubectlLine("-n", namespace, "get", "events")},
			step{"Wait for the Platform", q.awaitPlatform, u.kubectlLine("-n", namespace, "describe", "platform,pods")},
			step{"Wait for the resources on it", q.awaitAll, u.kubectlLine("-n", namespace, "describe", "itechsmart,pods")},
			step{"Stream three million flights", q.stream, u.kubectlLine("-n", namespace, "logs", "job/load-flights") + "\n    " + u.kubectlLine("-n", namespace, "get", "pipeline", "flights", "-o", "yaml")},
		)
		defer func() { q.close() }()
	}
	started := time.Now()
	for i, s := range steps {
		if err := u.step(ctx, fmt.Sprintf("[%d/%d]", i+1, len(steps)), s); err != nil {
			return fmt.Errorf("step %d of %d, %q: %w\n  look at:\n    %s\n  then run `make up` again: it goes on where it stopped", i+1, len(steps), s.title, err, s.lookAt)
		}
	}
	fmt.Printf("\nAll is up after %s.\n", time.Since(started).Round(time.Second))
	return u.tell(ctx, *quickstart)
}
