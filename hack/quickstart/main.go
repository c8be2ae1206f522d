// SPDX-License-Identifier: Apache-2.0

// Command quickstart loads flights from a file into a Kafka topic, as JSON records. It may be killed and restarted at any
// time: it resumes at the end of the topic, and loads no record twice.
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

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/kafka"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	file := flags.String("file", "/data/flights-3m.parquet", "the flights: a .parquet, or a .json array such as /data/flights-200k.json")
	topic := flags.String("topic", "flights", "the topic; no other program may write to it")
	binding := flags.String("binding", "/bindings/kafka", "directory of the Service Binding, one file per key")
	limit := flags.Int64("limit", 0, "load only this many records; 0: all")
	wait := flags.Duration("wait", 5*time.Minute, "how long to wait for the topic, which its Pipeline creates")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *limit < 0 {
		return fmt.Errorf("--limit: %d is negative", *limit)
	}
	if err := kafka.ValidTopic(*topic); err != nil {
		return fmt.Errorf("--topic: %w", err)
	}
	bound, err := readBinding(*binding)
	if err != nil {
		return fmt.Errorf("--binding: %w", err)
	}
	source, err := openFlights(*file)
	if err != nil {
		return fmt.Errorf("--file: %w", err)
	}
	defer source.Close()
	transport, err := kafka.Transport(bound)
	if err != nil {
		return fmt.Errorf("--binding: %w", err)
	}
	defer transport.CloseIdleConnections()
	load := newLoader(transport, kafka.Addr(bound), *topic, os.Stdout)
	if err := load.awaitTopic(ctx, *wait); err != nil {
		return err
	}
	return load.run(ctx, source, *limit)
}

// readBinding reads a mounted Secret in the Service Binding format.
func readBinding(dir string) (backend.Binding, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return backend.Binding{}, err
	}
	data := map[string][]byte{}
	for _, entry := range entries {
		if entry.Name()[0] == '.' {
			continue // internal files of the volume
		}
		value, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return backend.Binding{}, err
		}
		data[entry.Name()] = value
	}
	return backend.ParseBinding(data), nil
}
