// SPDX-License-Identifier: Apache-2.0

// Package steptest is the conformance suite of step types: it checks what every type must do. A type's test supplies a harness.
package steptest

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/workflow/internal/engine"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/step"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

// Harness is one type with a valid configuration.
type Harness struct {
	Type string
	Env  step.Env
	// Config is a configuration that succeeds.
	Config map[string]any
	// Bad are invalid configurations, by the field that the error must name, such as with.url.
	Bad map[string]map[string]any
	// Slow is a configuration that runs until its context is done; nil if the type is never slow.
	Slow map[string]any
	// Started receives when Slow is running. It is optional.
	Started <-chan struct{}
	// Failing are configurations that fail at a server, to check their error texts.
	Failing []map[string]any
	// Secrets must not appear in errors or outputs.
	Secrets []string
}

// timeout is the timeout of all waits, for busy machines.
const timeout = time.Minute

// Connections are the connections of a worker's file.
type Connections map[string]backend.Binding

// Binding implements step.Connections.
func (c Connections) Binding(name string) (backend.Binding, error) {
	b, ok := c[name]
	if !ok {
		return backend.Binding{}, backend.ErrNotFound
	}
	return b, nil
}

// Call returns a call with a configuration.
func Call(kind string, config map[string]any) engine.Call {
	return engine.Call{
		Type: kind, Config: config, Key: "run-1/step-1/-1/1", Attempt: 1, Run: "run-1", Workflow: "flow", Step: "step-1", Item: -1,
		Scope: &definition.Scope{Inputs: map[string]any{"name": "it"}},
	}
}

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	set := steps.New(h.Env)
	t.Cleanup(func() {
		if err := set.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	t.Run("CompilesInDefinition", func(t *testing.T) { h.known(t) })
	t.Run("ReturnsPlainJSON", func(t *testing.T) { h.output(t, set) })
	t.Run("LimitsOutput", func(t *testing.T) { h.bound(t) })
	t.Run("RefusesBadConfig", func(t *testing.T) { h.bad(t, set) })
	t.Run("RefusesWrongTypes", func(t *testing.T) { h.wrongTypes(t, set) })
	t.Run("EndsWithItsContext", func(t *testing.T) { h.cancelled(t, set) })
	t.Run("KeepsSecrets", func(t *testing.T) { h.secrets(t, set) })
	t.Run("ManyAtOnce", func(t *testing.T) { h.many(t, set) })
}

func bounded(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	t.Cleanup(cancel)
	return ctx
}

// known checks that a definition with this configuration compiles.
func (h *Harness) known(t *testing.T) {
	with, err := json.Marshal(h.Config)
	if err != nil {
		t.Fatal(err)
	}
	w := &definition.Workflow{Steps: []definition.StepSpec{{Name: "a", Type: h.Type, With: with}}}
	if name, ok := h.Config["connection"].(string); ok {
		w.Connections = []definition.ConnectionRef{{Name: name}}
	}
	_, err = definition.Compile(w)
	if err != nil {
		t.Errorf("the definition does not compile: %v", err)
	}
}

func (h *Harness) output(t *testing.T, set *steps.Set) {
	got, err := set.Execute(bounded(t), Call(h.Type, h.Config))
	if err != nil {
		t.Fatal(err)
	}
	value := got.Output
	if got.Wait != nil {
		value = any(got.Wait.Detail)
		if got.Wait.Detail == nil {
			value = nil
		}
	}
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	again, err := step.Decode(text)
	if err != nil || !reflect.DeepEqual(again, value) {
		t.Errorf("round trip of %#v = %#v, %v", value, again, err)
	}
}

// bound checks that an output above the limit is rejected, and not truncated.
func (h *Harness) bound(t *testing.T) {
	env := h.Env
	env.MaxOutput = 1
	set := steps.New(env)
	defer set.Close() //nolint:errcheck // checked by the other tests
	got, err := set.Execute(bounded(t), Call(h.Type, h.Config))
	if err == nil && got.Wait != nil {
		return // no output yet
	}
	Permanent(t, err, "more than", "larger than", "too large")
}

// Permanent checks that an error is permanent, and that its text contains one of the parts.
func Permanent(t *testing.T, err error, parts ...string) {
	t.Helper()
	var p *engine.Permanent
	if !errors.As(err, &p) {
		t.Errorf("got %v, want a permanent error", err)
		return
	}
	for _, part := range parts {
		if strings.Contains(err.Error(), part) {
			return
		}
	}
	t.Errorf("got %q, want %s", err, strings.Join(parts, " or "))
}

func (h *Harness) bad(t *testing.T, set *steps.Set) {
	for path, config := range h.Bad {
		_, err := set.Execute(bounded(t), Call(h.Type, config))
		Permanent(t, err, strings.Fields(path)[0]+":")
	}
	config := maps.Clone(h.Config)
	config["surprise"] = 1
	_, err := set.Execute(bounded(t), Call(h.Type, config))
	Permanent(t, err, "with.surprise: unknown field")
	_, err = set.Execute(bounded(t), Call(h.Type, nil))
	Permanent(t, err, "with.")
}

// wrongTypes checks that any value of a field, as from an expression, is accepted or rejected with the field's path.
func (h *Harness) wrongTypes(t *testing.T, set *steps.Set) {
	for field := range h.Config {
		for _, value := range []any{nil, true, int64(-1), 1e300, "\x00\xff", []any{map[string]any{"a": []any{}}}, map[string]any{"": []any{nil}}} {
			config := maps.Clone(h.Config)
			config[field] = value
			ctx, cancel := context.WithTimeout(context.Background(), timeout)
			_, err := set.Execute(ctx, Call(h.Type, config))
			cancel()
			if err != nil && !strings.Contains(err.Error(), "with.") && !strings.Contains(err.Error(), "output") {
				t.Errorf("%s = %v: got %q, want a field's path", field, value, err)
			}
			if err != nil && strings.Contains(err.Error(), "internal error") {
				t.Errorf("%s = %v: %v", field, value, err)
			}
		}
	}
}

func (h *Harness) cancelled(t *testing.T, set *steps.Set) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	h.ends(ended, t, set, h.Config)
	if h.Slow == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		if h.Started != nil {
			<-h.Started
		}
		cancel()
	}()
	h.ends(ctx, t, set, h.Slow)
}

func (h *Harness) ends(ctx context.Context, t *testing.T, set *steps.Set, config map[string]any) {
	t.Helper()
	result := make(chan error, 1)
	go func() {
		_, err := set.Execute(ctx, Call(h.Type, config))
		result <- err
	}()
	select {
	case err := <-result:
		var p *engine.Permanent
		if !errors.Is(err, context.Canceled) || errors.As(err, &p) {
			t.Errorf("got %v, want context.Canceled, not permanent", err)
		}
	case <-time.After(timeout):
		t.Fatal("the step did not end with its context")
	}
}

func (h *Harness) secrets(t *testing.T, set *steps.Set) {
	for _, config := range append([]map[string]any{h.Config}, h.Failing...) {
		got, err := set.Execute(bounded(t), Call(h.Type, config))
		text, _ := json.Marshal(got) // only searched for secrets
		if err != nil {
			text = append(text, err.Error()...)
		}
		for _, secret := range h.Secrets {
			if secret != "" && strings.Contains(string(text), secret) {
				t.Errorf("%v reveals a secret", config)
			}
		}
	}
	for i, config := range h.Failing {
		if _, err := set.Execute(bounded(t), Call(h.Type, config)); err == nil {
			t.Errorf("failing configuration %d succeeded", i)
		}
	}
}

func (h *Harness) many(t *testing.T, set *steps.Set) {
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if _, err := set.Execute(bounded(t), Call(h.Type, maps.Clone(h.Config))); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}
