// SPDX-License-Identifier: Apache-2.0

// Command gobuild builds Go programs, all with the same flags, and prints its progress:
//
//	go run ./hack/gobuild -o .local/bin manager=./cmd/manager tool=./hack/up
//
// Flags are the same for every program and module that make up builds, so that a package that several of them share is
// compiled once: the node, Helm and the operator have Kubernetes' libraries in common (test/arch compares their
// versions). The packages are compiled by one go build, then the programs are linked two at a time: several concurrent go
// builds would compile the same packages, since none waits for another's result.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "gobuild:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	b := builder{out: os.Stdout, errors: os.Stderr}
	flags := flag.NewFlagSet("gobuild", flag.ContinueOnError)
	flags.StringVar(&b.dir, "C", ".", "`directory` of the module")
	out := flags.String("o", "", "`directory` of the programs, relative to the working directory")
	flags.StringVar(&b.ldflags, "ldflags", "", "further `flags` of the linker, such as -X main.version=v1")
	platform := flags.String("platform", "", "`os/arch` to build for; this machine's when empty")
	flags.DurationVar(&b.every, "every", 10*time.Second, "`time` between two lines of progress; $GOBUILD_EVERY replaces the default")
	if every, err := time.ParseDuration(os.Getenv("GOBUILD_EVERY")); err == nil {
		b.every = every
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	for _, arg := range flags.Args() {
		name, pkg, ok := strings.Cut(arg, "=")
		if !ok || name == "" || pkg == "" {
			return fmt.Errorf("%q is not NAME=PACKAGE", arg)
		}
		b.programs = append(b.programs, program{name, pkg})
	}
	if len(b.programs) == 0 || *out == "" {
		return errors.New("usage: gobuild -o DIRECTORY NAME=PACKAGE…")
	}
	var err error
	if b.to, err = filepath.Abs(*out); err != nil {
		return err
	}
	if b.environ, err = environ(*platform); err != nil {
		return err
	}
	return b.build(ctx)
}
