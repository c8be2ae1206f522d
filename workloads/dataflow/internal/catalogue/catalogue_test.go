// SPDX-License-Identifier: Apache-2.0

package catalogue_test

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"github.com/itechsmart/operator/workloads/dataflow/internal/catalogue"
)

var update = flag.Bool("update", false, "update catalogue.json")

// TestCommitted fails when the embedded catalogue differs from what is linked into the worker.
func TestCommitted(t *testing.T) {
	const file = "../../worker/config/catalogue.json"
	want, err := catalogue.JSON()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("catalogue.json is stale: run `go generate ./workloads/dataflow/worker/config`")
	}
}
