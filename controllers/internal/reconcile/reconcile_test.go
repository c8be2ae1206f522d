// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestDecide(t *testing.T) {
	plain := errors.New("boom")
	for name, test := range map[string]struct {
		err   error
		again time.Duration
		after time.Duration // at least; 0: no requeue
		fails bool
	}{
		"done":                      {nil, 0, 0, false},
		"done, look again":          {nil, time.Minute, time.Minute, false},
		"waiting on a watch":        {Wait("R", "m"), 0, 0, false},
		"waiting, wrapped":          {fmt.Errorf("step: %w", &Waiting{Reason: "R", After: time.Second}), time.Minute, time.Second, false},
		"stalled":                   {Stall("R", "m"), 0, 0, false},
		"stalled, looked at again":  {&Terminal{Reason: "R", After: time.Minute}, 0, time.Minute, false},
		"outside, with back-off":    {Fail("R", plain), time.Minute, 0, true},
		"unexpected, with back-off": {plain, 0, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			result, err := decide(test.err, test.again)
			if (err != nil) != test.fails {
				t.Fatalf("error %v", err)
			}
			if result.RequeueAfter < test.after || result.RequeueAfter > test.after+test.after/10+1 {
				t.Errorf("requeue after %s, want %s", result.RequeueAfter, test.after)
			}
		})
	}
}

func TestClassify(t *testing.T) {
	for name, test := range map[string]struct {
		err             error
		reason, message string
	}{
		"waiting":    {fmt.Errorf("step: %w", Wait("R", "%d of %d", 1, 2)), "R", "1 of 2"},
		"terminal":   {Stall("S", "no"), "S", "no"},
		"failed":     {Fail("F", errors.New("down")), "F", "down"},
		"unexpected": {errors.New("boom"), "ReconcileError", "boom"},
	} {
		t.Run(name, func(t *testing.T) {
			if reason, message := Classify(test.err); reason != test.reason || message != test.message {
				t.Errorf("got %s, %s", reason, message)
			}
		})
	}
	if Fail("F", nil) != nil {
		t.Error("no error must stay none")
	}
}
