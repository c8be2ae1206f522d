// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/itechsmart/operator/workloads/workflow/internal/bindings"
	"github.com/itechsmart/operator/workloads/workflow/internal/engine"
)

// recorder records its calls.
type recorder struct{ calls []engine.Call }

func (a *recorder) Execute(_ context.Context, call engine.Call) (engine.Result, error) {
	a.calls = append(a.calls, call)
	return engine.Result{Output: "asked"}, nil
}

// A step whose connection never arrives stops waiting, and then reports the missing connection itself.
func TestConnectionNeverArrives(t *testing.T) {
	now, steps := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC), &recorder{}
	o := ownConnections{steps: steps, known: bindings.Open(t.TempDir(), slog.New(slog.DiscardHandler)), now: func() time.Time { return now }}
	call := engine.Call{Type: "sql", Workflow: "orders", Config: map[string]any{"connection": "db"}}
	waits := 0
	for ; len(steps.calls) == 0; waits++ {
		result, err := o.Execute(t.Context(), call)
		if err != nil {
			t.Fatal(err)
		}
		if result.Wait == nil {
			break
		}
		if !result.Wait.Until.After(now) || waits > 1000 {
			t.Fatalf("wait %d is until %s at %s", waits, result.Wait.Until, now)
		}
		now, call.Resume = result.Wait.Until, &engine.Resume{Detail: result.Wait.Detail}
	}
	if waits != int(maxWait/recheckAfter) || len(steps.calls) != 1 || steps.calls[0].Config["connection"] != "orders/db" || steps.calls[0].Resume != nil {
		t.Errorf("after %d waits: %+v", waits, steps.calls)
	}
	if call.Config["connection"] != "db" {
		t.Error("the caller's configuration was modified")
	}
}
