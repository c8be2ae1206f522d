// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"encoding/json"
	"time"

	"github.com/itechsmart/operator/workloads/workflow/internal/payloads"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

// compiledStep is a step of a compiled definition.
type compiledStep = *definition.Step

func role(s compiledStep) store.Role {
	switch s.Role() {
	case definition.OnSuccess:
		return store.OnSuccess
	case definition.OnFailure:
		return store.OnFailure
	case definition.AlwaysAfter:
		return store.Always
	}
	return store.Main
}

// Defaults of a definition's fields.
const (
	defaultTimeout = time.Hour
	defaultHistory = 10
	defaultTTL     = 7 * 24 * time.Hour
)

func timeout(p *definition.Program) time.Duration {
	if t := time.Duration(p.Workflow().Timeout); t > 0 {
		return t
	}
	return defaultTimeout
}

func concurrency(p *definition.Program, scope *definition.Scope) (*store.Concurrency, error) {
	c := p.Workflow().Concurrency
	if c == nil {
		return nil, nil
	}
	key, err := p.ConcurrencyKey(scope)
	policy := store.Policy(c.Policy)
	if policy == "" {
		policy = store.PolicyQueue
	}
	return &store.Concurrency{Key: key, Max: max(1, c.Max), Policy: policy}, err
}

func history(p *definition.Program) store.Retention {
	k := store.Retention{Successful: defaultHistory, Failed: defaultHistory, TTL: defaultTTL}
	h := p.Workflow().History
	if h == nil {
		return k
	}
	if h.Successful != nil {
		k.Successful = *h.Successful
	}
	if h.Failed != nil {
		k.Failed = *h.Failed
	}
	if h.TTL > 0 {
		k.TTL = time.Duration(h.TTL)
	}
	return k
}

// storedTrigger is the JSON of a trigger in the database.
type storedTrigger struct {
	Type        string            `json:"type,omitempty"`
	Name        string            `json:"name,omitempty"`
	Body        json.RawMessage   `json:"body,omitempty"`
	Headers     map[string]string `json:"headers,omitempty"`
	ScheduledAt *time.Time        `json:"scheduledAt,omitempty"`
}

func newStoredTrigger(t definition.TriggerInfo) (storedTrigger, error) {
	k := storedTrigger{Type: t.Type, Name: t.Name, Headers: t.Headers}
	if !t.ScheduledAt.IsZero() {
		k.ScheduledAt = &t.ScheduledAt
	}
	var err error
	if t.Body != nil {
		k.Body, err = json.Marshal(t.Body)
	}
	if err == nil {
		err = payloads.CheckValue(k.Body)
	}
	return k, err
}

// readTrigger returns the trigger of a run without its body, and the stored body.
func readTrigger(run *store.Run) (t definition.TriggerInfo, body payloads.Value, err error) {
	var k storedTrigger
	if err := json.Unmarshal(run.Trigger, &k); err != nil {
		return t, body, err
	}
	t = definition.TriggerInfo{Type: k.Type, Name: k.Name, Headers: k.Headers}
	if k.ScheduledAt != nil {
		t.ScheduledAt = *k.ScheduledAt
	}
	body, err = payloads.Parse(k.Body, false, Folders(run))
	return t, body, err
}

// Compile compiles a stored definition.
func Compile(spec json.RawMessage) (*definition.Program, error) {
	var w definition.Workflow
	if err := json.Unmarshal(spec, &w); err != nil {
		return nil, err
	}
	return definition.Compile(&w)
}
