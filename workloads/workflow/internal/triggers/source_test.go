// SPDX-License-Identifier: Apache-2.0

package triggers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/workflow/internal/launch"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

// answers is a Launcher that returns errors in sequence, and repeats the last one.
type answers struct {
	errs     []error
	keys     []string
	rejected int
	asked    func()
}

func (a *answers) Start(_ context.Context, r launch.Request) (launch.Started, error) {
	a.keys = append(a.keys, r.Key)
	if a.asked != nil {
		a.asked()
	}
	return launch.Started{}, a.errs[min(len(a.keys), len(a.errs))-1]
}

func (a *answers) Reject(string, string) { a.rejected++ }

func (a *answers) Forget(context.Context, string) error { return nil }

// TestFire: an event is done only when its run is durable, and is rejected only if the event itself is invalid.
func TestFire(t *testing.T) {
	down := fmt.Errorf("queue: %w", backend.ErrUnavailable)
	strange := errors.New("unknown")
	for name, c := range map[string]struct {
		errs            []error
		ok              bool
		calls, rejected int
	}{
		"started":                      {[]error{nil}, true, 1, 0},
		"concurrency limit":            {[]error{store.ErrBusy}, true, 1, 0},
		"the service is down":          {[]error{down, down, down, down, down, down, down, nil}, true, 8, 0},
		"the workflow is being edited": {[]error{launch.ErrInvalidDefinition, launch.ErrSuspended, launch.ErrNoTrigger, nil}, true, 4, 0},
		"an invalid input":             {[]error{down, &definition.InputError{}}, false, 2, 0}, // the launcher counts it
		"an invalid body":              {[]error{fmt.Errorf("filter: %w", backend.ErrInvalid)}, false, 1, 0},
		"unknown error":                {[]error{strange}, false, unknownErrors, 1},
		"temporary unknown error":      {[]error{strange, strange, down, nil}, true, 4, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			a := &answers{errs: c.errs}
			s := &Triggers{options: Options{Launcher: a, Log: slog.New(slog.DiscardHandler)}}
			ok, err := s.fire(t.Context(), id{"orders", "bus"}, event{key: "k"})
			if ok != c.ok || err != nil || len(a.keys) != c.calls || a.rejected != c.rejected || a.keys[0] != "trigger/bus/k" {
				t.Errorf("%s: %t, %v after %v, %d rejected", name, ok, err, a.keys, a.rejected)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) { // fire returns the error of a canceled context
		ctx, stop := context.WithCancel(t.Context())
		a := &answers{errs: []error{down}}
		a.asked = func() {
			if len(a.keys) == 3 {
				stop()
			}
		}
		s := &Triggers{options: Options{Launcher: a}}
		if ok, err := s.fire(ctx, id{"orders", "bus"}, event{}); ok || !errors.Is(err, context.Canceled) || a.keys[0] != "" {
			t.Errorf("%t, %v", ok, err)
		}
	})
}

func TestPayload(t *testing.T) {
	for _, c := range []struct {
		body, contentType string
		want              any
		wrong             bool
	}{
		{`{"a":1}`, "", map[string]any{"a": int64(1)}, false}, {"hello", "", "hello", false}, {"", "text/plain", "", false},
		{"hello", "application/json; charset=utf-8", nil, true}, {"\xff", "", nil, true}, {"a\x00b", "", nil, true}, {`{"a":1}{`, "", `{"a":1}{`, false},
	} {
		got, err := payload([]byte(c.body), c.contentType)
		if fmt.Sprint(got) != fmt.Sprint(c.want) || (err != nil) != c.wrong {
			t.Errorf("%q: %v, %v", c.body, got, err)
		}
	}
	for most, want := range map[int64]int{1: prefetch, 1 << 20: 16, definition.MaxPayload: 2} {
		if got := (source{maxPayload: most}).inHand(); got != want {
			t.Errorf("%d bytes: inHand = %d", most, got)
		}
	}
}
