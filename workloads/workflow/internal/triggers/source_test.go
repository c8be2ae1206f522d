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

// answers is a Launcher that gives one after the other, the last forever.
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

// TestFire: only what is durable counts as done, and only what is wrong with the event itself makes it wrong.
func TestFire(t *testing.T) {
	away := fmt.Errorf("queue: %w", backend.ErrUnavailable)
	strange := errors.New("nobody knows this")
	for name, c := range map[string]struct {
		errs            []error
		ok              bool
		calls, rejected int
	}{
		"started":                      {[]error{nil}, true, 1, 0},
		"one run too many":             {[]error{store.ErrBusy}, true, 1, 0},
		"the service is away":          {[]error{away, away, away, away, away, away, away, nil}, true, 8, 0},
		"the workflow is being edited": {[]error{launch.ErrInvalidDefinition, launch.ErrSuspended, launch.ErrNoTrigger, nil}, true, 4, 0},
		"a wrong input":                {[]error{away, &definition.InputError{}}, false, 2, 0}, // the launcher counts it
		"a wrong body":                 {[]error{fmt.Errorf("filter: %w", backend.ErrInvalid)}, false, 1, 0},
		"nobody knows":                 {[]error{strange}, false, unknownErrors, 1},
		"nobody knows, but it passes":  {[]error{strange, strange, away, nil}, true, 4, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			a := &answers{errs: c.errs}
			s := &Triggers{options: Options{Launcher: a, Log: slog.New(slog.DiscardHandler)}}
			ok, err := s.fire(t.Context(), id{"orders", "bus"}, came{key: "k"})
			if ok != c.ok || err != nil || len(a.keys) != c.calls || a.rejected != c.rejected || a.keys[0] != "trigger/bus/k" {
				t.Errorf("%s: %t, %v after %v, %d rejected", name, ok, err, a.keys, a.rejected)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) { // whoever ends says that nothing is done
		ctx, stop := context.WithCancel(t.Context())
		a := &answers{errs: []error{away}}
		a.asked = func() {
			if len(a.keys) == 3 {
				stop()
			}
		}
		s := &Triggers{options: Options{Launcher: a}}
		if ok, err := s.fire(ctx, id{"orders", "bus"}, came{}); ok || !errors.Is(err, context.Canceled) || a.keys[0] != "" {
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
			t.Errorf("%d bytes: %d in hand", most, got)
		}
	}
}
