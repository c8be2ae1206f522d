// SPDX-License-Identifier: Apache-2.0

// Package definition says what a workflow is, proves that it can run, and
// evaluates what its author wrote. It is plain Go, and pure: no database, no
// network, and no clock of its own, so that what is evaluated again after a
// crash gives the same.
package definition

import (
	"encoding/json"
	"fmt"
	"time"
)

// Bounds of a definition.
const (
	MaxSteps  = 100  // of a workflow, its handlers included
	MaxItems  = 1000 // of a forEach
	MaxInputs = 64

	MaxPayload     = 8 << 20 // bytes that a webhook or an event may bring, at most
	DefaultPayload = 1 << 20
)

// Workflow is the specification of the custom resource, in the same JSON.
type Workflow struct {
	// Name is whose it is, which a workflow step must not call: nothing would end.
	Name string `json:"name,omitempty"`
	// Suspend keeps triggers from starting runs.
	Suspend bool    `json:"suspend,omitempty"`
	Inputs  []Input `json:"inputs,omitempty"`
	// Connections are the names that steps and triggers may use; what they stand for is not part of a definition.
	Connections []ConnectionRef `json:"connections,omitempty"`
	Triggers    []Trigger       `json:"triggers,omitempty"`
	Timeout     Duration        `json:"timeout,omitempty"` // of a run; 1 h when zero
	Concurrency *Concurrency    `json:"concurrency,omitempty"`
	Steps       []StepSpec      `json:"steps"`
	// Handlers run after the steps: on success, on failure, and always.
	OnSuccess []StepSpec `json:"onSuccess,omitempty"`
	OnFailure []StepSpec `json:"onFailure,omitempty"`
	Always    []StepSpec `json:"always,omitempty"`
	// Outputs of a run, by name: templates that see all steps.
	Outputs map[string]json.RawMessage `json:"outputs,omitempty"`
	History *History                   `json:"history,omitempty"`
}

// Parse reads the specification of the resource of a name. What is no part of a definition is left out.
func Parse(name string, spec []byte) (*Workflow, error) {
	var w Workflow
	if err := json.Unmarshal(spec, &w); err != nil {
		return nil, fmt.Errorf("spec: %w", err)
	}
	w.Name = name
	return &w, nil
}

// InputType is the type of an input's value.
type InputType string

// The types of inputs.
const (
	String  InputType = "string"
	Integer InputType = "integer"
	Number  InputType = "number"
	Boolean InputType = "boolean"
	Object  InputType = "object"
	Array   InputType = "array"
)

// Input is a value that a run is started with.
type Input struct {
	Name        string          `json:"name"`
	Type        InputType       `json:"type,omitempty"` // string when empty
	Description string          `json:"description,omitempty"`
	Required    bool            `json:"required,omitempty"`
	Default     json.RawMessage `json:"default,omitempty"`
}

// TriggerType is the type of a trigger.
type TriggerType string

// The types of triggers.
const (
	Manual    TriggerType = "Manual"
	Scheduled TriggerType = "Scheduled"
	Webhook   TriggerType = "Webhook"
	Event     TriggerType = "Event"
	API       TriggerType = "API"
)

// Trigger starts runs. Exactly the field of its type is set.
type Trigger struct {
	Name      string         `json:"name"`
	Type      TriggerType    `json:"type"`
	Scheduled *ScheduledSpec `json:"scheduled,omitempty"`
	Webhook   *WebhookSpec   `json:"webhook,omitempty"`
	Event     *EventSpec     `json:"event,omitempty"`
	API       *APISpec       `json:"api,omitempty"`
	// Inputs are templates of the run's inputs, which see trigger.
	Inputs map[string]json.RawMessage `json:"inputs,omitempty"`
}

// Missed says what becomes of ticks that came while nobody could fire them.
type Missed string

// What becomes of missed ticks.
const (
	Skip    Missed = "Skip"
	RunOnce Missed = "RunOnce"
	RunAll  Missed = "RunAll"
)

// ScheduledSpec is a cron line.
type ScheduledSpec struct {
	Cron     string `json:"cron"`
	TimeZone string `json:"timeZone,omitempty"` // UTC when empty
	// StartingDeadline is how late a tick may fire; zero: no limit.
	StartingDeadline Duration `json:"startingDeadline,omitempty"`
	Missed           Missed   `json:"missed,omitempty"` // RunOnce when empty
}

// WebhookSpec is a path that a POST to starts a run.
type WebhookSpec struct {
	Path string `json:"path"`
	// Auth authenticates calls; nil: an API token is needed.
	Auth    *WebhookAuth `json:"auth,omitempty"`
	Respond string       `json:"respond,omitempty"` // Accepted (when empty) or WaitForResult
	// MaxPayloadBytes bounds a body; DefaultPayload when zero.
	MaxPayloadBytes int64 `json:"maxPayloadBytes,omitempty"`
}

// WebhookAuth authenticates calls of a webhook.
type WebhookAuth struct {
	HMACSecretRef SecretRef `json:"hmacSecretRef"` // the key by which bodies are signed
}

// SecretRef names a key of a Secret in the workflow's namespace.
type SecretRef struct {
	Name string `json:"name"`
	Key  string `json:"key,omitempty"` // hmac when empty
}

// ConnectionRef names one of the workflow's connections.
type ConnectionRef struct {
	Name string `json:"name"`
}

// EventSpec are messages that start runs.
type EventSpec struct {
	Source        string        `json:"source"` // rabbitmq, kafka or kubernetes
	ConnectionRef ConnectionRef `json:"connectionRef,omitzero"`
	Name          string        `json:"name,omitempty"`      // of the queue, the topic, or the kind
	Filter        string        `json:"filter,omitempty"`    // CEL, bool
	DedupeKey     string        `json:"dedupeKey,omitempty"` // CEL, string
	// MaxPayloadBytes bounds a message; DefaultPayload when zero.
	MaxPayloadBytes int64 `json:"maxPayloadBytes,omitempty"`
}

// APISpec is a start by REST.
type APISpec struct {
	IdempotencyKeyHeader string `json:"idempotencyKeyHeader,omitempty"`
}

// ConcurrencyPolicy says what becomes of a run beyond the bound.
type ConcurrencyPolicy string

// What becomes of a run beyond the bound.
const (
	QueueRun       ConcurrencyPolicy = "Queue"
	SkipRun        ConcurrencyPolicy = "Skip"
	CancelPrevious ConcurrencyPolicy = "CancelPrevious"
)

// Concurrency bounds the runs at one time, of those with the same key.
type Concurrency struct {
	Max    int               `json:"max"`
	Policy ConcurrencyPolicy `json:"policy,omitempty"` // Queue when empty
	Key    string            `json:"key,omitempty"`    // CEL; empty: one key for all
}

// History limits how many ended runs are kept, and for how long.
type History struct {
	Successful *int     `json:"successful,omitempty"` // 10 when nil
	Failed     *int     `json:"failed,omitempty"`     // 10 when nil
	TTL        Duration `json:"ttl,omitempty"`        // 168 h when zero
}

// StepSpec is one step as it is written.
type StepSpec struct {
	Name  string   `json:"name"`
	Needs []string `json:"needs,omitempty"`
	When  string   `json:"when,omitempty"` // CEL, bool
	Type  string   `json:"type"`
	// With is the configuration of the type; texts may hold ${{ CEL }}.
	With    json.RawMessage `json:"with,omitempty"`
	ForEach *ForEach        `json:"forEach,omitempty"`
	Timeout Duration        `json:"timeout,omitempty"` // of an attempt; the run's bound is all when zero
	Retry   *RetrySpec      `json:"retry,omitempty"`
	OnError OnError         `json:"onError,omitempty"` // Fail when empty
	// Outputs are templates by name, which see result, the step's output.
	Outputs map[string]json.RawMessage `json:"outputs,omitempty"`
}

// OnError says what a failed step does to its run.
type OnError string

// What a failed step does to its run.
const (
	Fail     OnError = "Fail"     // the run fails
	Continue OnError = "Continue" // the run goes on as if the step had ended well
)

// ForEach runs a step once for each item of a list.
type ForEach struct {
	// Items is a list, or a text ${{ CEL }} that gives one.
	Items json.RawMessage `json:"items"`
	// Parallelism bounds the items at one time; 10 when zero.
	Parallelism int `json:"parallelism,omitempty"`
}

// RetrySpec repeats a failed step.
type RetrySpec struct {
	Attempts int      `json:"attempts"`           // in all, 1 to 20
	Delay    Duration `json:"delay,omitempty"`    // before the second attempt; 1 s when zero
	MaxDelay Duration `json:"maxDelay,omitempty"` // 5 min when zero
	Factor   float64  `json:"factor,omitempty"`   // 2 when zero
	// JitterPercent is the share of the delay that is random; 20 when nil.
	JitterPercent *int `json:"jitterPercent,omitempty"`
}

// Duration is written as Go writes one: "1h30m".
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is no duration, such as 30s or 1h30m", text)
	}
	*d = Duration(parsed)
	return nil
}
