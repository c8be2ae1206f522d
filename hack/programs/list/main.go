// SPDX-License-Identifier: Apache-2.0

// Command list prints the operator's programs, one a line: name, package, kind.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/itechsmart/operator/hack/programs"
)

func main() {
	images := flag.Bool("images", false, "only programs that have an image")
	flag.Parse()
	list, err := programs.List(context.Background(), ".")
	if err != nil {
		fmt.Fprintln(os.Stderr, "list:", err)
		os.Exit(1)
	}
	for _, p := range list {
		if p.HasImage() || !*images {
			fmt.Println(p.Name, p.Package, p.Kind)
		}
	}
}
