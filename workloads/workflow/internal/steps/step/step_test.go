// SPDX-License-Identifier: Apache-2.0

package step_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/workflow/internal/engine"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/step"
)

// client counts how often it is closed.
type client struct {
	binding backend.Binding
	mu      sync.Mutex
	closed  int
}

func (c *client) ended() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

func TestPool(t *testing.T) {
	g := NewWithT(t)
	opened := 0
	pool := step.NewPool(func(b backend.Binding) (*client, error) {
		if b.Type == "bad" {
			return nil, backend.ErrInvalid
		}
		opened++
		return &client{binding: b}, nil
	}, func(c *client) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.closed++
	})
	get := func(name, password string) (*client, func()) {
		t.Helper()
		c, done, err := pool.Get(name, backend.Binding{Type: "x", Password: password})
		g.Expect(err).NotTo(HaveOccurred())
		return c, done
	}
	first, firstDone := get("a", "1")
	same, sameDone := get("a", "1")
	other, otherDone := get("b", "1")
	g.Expect(same).To(BeIdenticalTo(first))
	g.Expect(other).NotTo(BeIdenticalTo(first))
	sameDone()
	rotated, rotatedDone := get("a", "2")
	g.Expect(rotated).NotTo(BeIdenticalTo(first))
	g.Expect(first.ended()).To(Equal(0), "it is in use")
	firstDone()
	firstDone() // a second call has no effect
	g.Eventually(first.ended).Should(Equal(1))
	rotatedDone()
	again, againDone := get("a", "2")
	g.Expect(again).To(BeIdenticalTo(rotated))
	_, _, err := pool.Get("c", backend.Binding{Type: "bad"})
	g.Expect(err).To(MatchError(backend.ErrInvalid))
	otherDone()
	pool.Close()
	g.Eventually(other.ended).Should(Equal(1))
	g.Expect(again.ended()).To(Equal(0))
	againDone()
	g.Eventually(again.ended).Should(Equal(1))
	g.Expect(opened).To(Equal(3))
}

// TestConfig: all problems are reported, up to a limit.
func TestConfig(t *testing.T) {
	values := map[string]any{"a": int64(1), "b": "x", "n": 1.5, "d": "5", "t": map[string]any{"x": []any{}}, "l": "no list", "unknown": 1, strings.Repeat("n", 100): 1}
	config := step.Read(values)
	config.Text("a", "")
	config.Required("r")
	config.OneOf("b", "y", "z")
	config.Int("n", 1, 0, 9)
	config.Duration("d", time.Second, time.Minute)
	config.Texts("t")
	config.List("l")
	config.Bool("b")
	err := config.Err()
	var permanent *engine.Permanent
	if !errors.As(err, &permanent) {
		t.Fatalf("got %v, want a permanent error", err)
	}
	for _, part := range []string{"with.a: want a string, not a number", "with.r: is required", "with.b: want one of y, z", "with.n: want a whole number from 0 to 9", "with.d: want a duration up to 1m0s", "with.t.x: want a string, not a list",
		"with.l: want a list, not a string", "with.b: want true or false", "with.unknown: unknown field; valid are a, b, d, l, n, r, t", "with." + strings.Repeat("n", 64) + "…"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
	many := map[string]any{}
	for i := range 1000 {
		many[fmt.Sprint(i)] = 1
	}
	if err := step.Read(many).Err(); err == nil || !strings.HasSuffix(err.Error(), "and 980 more") {
		t.Errorf("got %v", err)
	}
}

// FuzzDecode: decoded values have only the types that steps return.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{`{"a":[1,2.5,null,true,"x"]}`, `1e999`, `9223372036854775808`, `{} {}`, `-0`, `"\ud800"`, ``} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		value, err := step.Decode(document)
		if err == nil && strings.Count(string(document), "[")+strings.Count(string(document), "{") < 90 {
			if err := step.Check(value, 1<<30); err != nil {
				t.Fatalf("%s: %v", document, err)
			}
		}
	})
}
