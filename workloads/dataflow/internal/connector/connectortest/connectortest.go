// SPDX-License-Identifier: Apache-2.0

// Package connectortest is the conformance suite of connectors: one for sources, one for sinks. A connector's
// test supplies a harness; the required behaviour is tested here, once.
package connectortest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/dataflow/internal/codec"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connector"
	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

// Common holds what the harnesses of both directions share.
type Common struct {
	Spec connector.Spec
	// Config is the component's config, as JSON or anything that marshals to it.
	Config any
	// Env holds the binding and whatever differs from the defaults of NewEnv.
	Env connector.Env
	// BadConfigs maps configs that must be refused to the field the error must name.
	BadConfigs map[string]string
	// Unreachable is a binding, or with UnreachableConfig a config, for a server that does not answer.
	Unreachable       *backend.Binding
	UnreachableConfig any
}

// openTimeout limits an open that cannot succeed; slack is what a busy machine adds.
const (
	openTimeout = 2 * time.Second
	slack       = 8 * time.Second
	patience    = 60 * time.Second
)

// NewEnv returns an Env with a codec, small batches and a quiet log.
func NewEnv(t testing.TB, spec connector.Spec, binding backend.Binding) connector.Env {
	t.Helper()
	format := spec.Codec
	if format == "" {
		format = "json"
	}
	c, err := codec.New(format, nil)
	if err != nil {
		t.Fatal(err)
	}
	return connector.Env{
		Pipeline: "test/conformance", Component: "it", Group: "conformance", Binding: binding, Codec: c,
		Batching:       config.Batching{Count: 7, Bytes: 1 << 20, Period: config.Duration(50 * time.Millisecond)},
		MaxRecordBytes: 1 << 20, Log: slog.New(slog.DiscardHandler),
	}
}

// Payload returns the text of record n, with everything that careless quoting breaks.
func Payload(n int) string {
	return fmt.Sprintf("record %d: ü \"quoted\" 'single' \\ back\ttab\nline; -- {}", n)
}

// Value returns record n as JSON: {"n": …, "text": …}.
func Value(n int) []byte {
	text, _ := json.Marshal(Payload(n)) // a string always marshals
	return fmt.Appendf(nil, `{"n":%d,"text":%s}`, n, text)
}

// number parses a record; ok is false if it differs from what Value returns.
func number(data []byte) (n int, ok bool) {
	var value struct {
		N    json.RawMessage `json:"n"`
		Text string          `json:"text"`
	}
	if json.Unmarshal(data, &value) != nil {
		return 0, false
	}
	// Formats without types (CSV) return numbers as strings.
	if json.Unmarshal(bytes.Trim(value.N, `"`), &n) != nil {
		return 0, false
	}
	return n, value.Text == Payload(n)
}

func rawConfig(t testing.TB, cfg any) json.RawMessage {
	t.Helper()
	switch v := cfg.(type) {
	case nil:
		return json.RawMessage("{}")
	case string:
		return json.RawMessage(v)
	case json.RawMessage:
		return v
	}
	data, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func (c *Common) decode(t testing.TB) any {
	t.Helper()
	cfg, err := connector.Decode(c.Spec, rawConfig(t, c.Config))
	if err != nil {
		t.Fatalf("decode config: %v", err)
	}
	return cfg
}

func bounded(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

type closer interface{ Close(context.Context) error }

func closeNow(t testing.TB, c closer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := c.Close(ctx); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// opener returns a function that opens either direction.
func (c *Common) opener() func(context.Context, any, connector.Env) (closer, error) {
	if c.Spec.Kind == connector.KindSource {
		return func(ctx context.Context, cfg any, env connector.Env) (closer, error) {
			return c.Spec.NewSource(ctx, cfg, env)
		}
	}
	return func(ctx context.Context, cfg any, env connector.Env) (closer, error) {
		return c.Spec.NewSink(ctx, cfg, env)
	}
}

// common runs the tests that both directions share.
func common(t *testing.T, make func(t *testing.T) Common) {
	t.Run("Spec", func(t *testing.T) {
		c := make(t)
		if c.Spec.Type == "" || c.Spec.Summary == "" || c.Spec.Config == nil {
			t.Errorf("type, summary and config must be set: %+v", c.Spec)
		}
		if _, err := connector.Schema(c.Spec.Config); err != nil {
			t.Errorf("schema: %v", err)
		}
	})
	t.Run("BadConfigIsNamed", func(t *testing.T) {
		c := make(t)
		bad := map[string]string{`{"noSuchField":1}`: "noSuchField"}
		for text, field := range c.BadConfigs {
			bad[text] = field
		}
		for text, field := range bad {
			c.refuses(t, text, field)
		}
	})
	t.Run("UnreachableEndsInTime", func(t *testing.T) {
		c := make(t)
		if c.Unreachable == nil && c.UnreachableConfig == nil {
			t.Skip("connects to nothing")
		}
		c.failsInTime(t)
	})
}

// refuses checks that a config is refused, by its schema or at opening, with an error that names the field.
func (c *Common) refuses(t *testing.T, text, field string) {
	t.Helper()
	cfg, err := connector.Decode(c.Spec, json.RawMessage(text))
	if err == nil {
		var opened closer
		if opened, err = c.opener()(bounded(t), cfg, c.Env); err == nil {
			closeNow(t, opened)
			t.Errorf("config %s was accepted", text)
			return
		}
	}
	if !errors.Is(err, backend.ErrInvalid) || !strings.Contains(err.Error(), field) {
		t.Errorf("config %s: error %q, want backend.ErrInvalid naming %q", text, err, field)
	}
}

func (c *Common) failsInTime(t *testing.T) {
	t.Helper()
	env := c.Env
	if c.Unreachable != nil {
		env.Binding = *c.Unreachable
	}
	if c.UnreachableConfig != nil {
		c.Config = c.UnreachableConfig
	}
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	start := time.Now()
	opened, err := c.opener()(ctx, c.decode(t), env)
	if err == nil {
		err = c.use(ctx, opened)
		closeNow(t, opened)
	}
	if err == nil {
		t.Fatal("no error although the server does not answer")
	}
	if took := time.Since(start); took > openTimeout+slack {
		t.Errorf("took %v, the context ended after %v", took, openTimeout)
	}
	if env.Binding.Password != "" && strings.Contains(err.Error(), env.Binding.Password) {
		t.Error("the error contains the password")
	}
	if errors.Is(err, backend.ErrInvalid) {
		t.Errorf("%v: wraps backend.ErrInvalid, but a retry may help", err)
	}
}

// use does one operation, for connectors that connect on first use.
func (c *Common) use(ctx context.Context, opened closer) error {
	switch v := opened.(type) {
	case connector.Source:
		_, err := v.Read(ctx)
		return err
	case connector.Sink:
		return v.Write(ctx, &record.Batch{Records: []record.Record{record.New(Value(0))}})
	}
	return nil
}
