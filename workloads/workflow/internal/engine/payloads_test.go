// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/itechsmart/operator/internal/backend/s3"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
)

// mega is five of them, as a text.
var mega = strings.Repeat("0123456789abcde\n", 5<<16)

func large(context.Context, Call) (Result, error) {
	return Result{Output: map[string]any{"text": mega, "n": 7}}, nil
}

// withBucket is a rig whose outputs may have 8 MiB.
func withBucket(t *testing.T, s *script) (*rig, *s3.Fake) {
	t.Helper()
	bucket := s3.NewFake()
	return launch(t, Options{Executor: s, Bucket: bucket, Store: store.Options{MaxOutput: 8 << 20}}), bucket
}

// chain hands a large output through three steps.
const chain = `{"steps":[{"name":"a","type":"x","outputs":{"again":"${{ result.text }}"}},
	{"name":"b","type":"x","needs":["a"],"with":{"value":"${{ steps.a.output }}"}},
	{"name":"c","type":"x","needs":["b"],"with":{"value":"${{ steps.b.output.text + steps.a.outputs.again }}"}},
	{"name":"d","type":"x","needs":["c"],"with":{"value":"${{ string(size(steps.c.output)) + steps.a.status }}"}}],
	"outputs":{"size":"${{ size(steps.c.output) }}","n":"${{ steps.b.output.n }}"}}`

func TestALargeOutputGoesThroughSteps(t *testing.T) {
	bucket := s3.NewFake()
	r := launch(t, Options{Executor: (&script{}).on("a", large), Bucket: bucket, Store: store.Options{MaxOutput: 11 << 20}})
	id := r.start(chain, nil)
	r.wait(id, store.Succeeded)
	steps := r.steps(id)
	if want := fmt.Sprintf(`"%dSucceeded"`, 2*len(mega)); string(steps["d"].Output) != want {
		t.Errorf("the last step gave %.80s, want %s", steps["d"].Output, want)
	}
	for _, name := range []string{"a", "b", "c"} {
		if n := len(steps[name].Output); n > 1024 {
			t.Errorf("%d bytes of the output of %s are in the database", n, name)
		}
	}
	if got := len(bucket.Keys()); got != 4 { // three outputs and the named ones of a
		t.Errorf("there are %d objects: %q", got, bucket.Keys())
	}
	// b reads one of them, c two and d one: no step reads what only its status is asked of, and none reads anything twice.
	if got := bucket.Calls("Get"); got != 4 {
		t.Errorf("objects were read %d times", got)
	}
	outputs, err := r.Outputs(t.Context(), id)
	if err == nil || outputs != nil {
		t.Errorf("outputs that take more than maxOutputBytes are %.80v, %v", outputs, err)
	}
}
