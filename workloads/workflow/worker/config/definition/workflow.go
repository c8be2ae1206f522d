// SPDX-License-Identifier: Apache-2.0

// Package definition defines workflows, validates them, and evaluates their expressions. It is plain Go and pure: no database, no
// network and no clock, so that evaluating again after a crash returns the same.
package definition

import (
	"encoding/json"
	"fmt"
	"time"
)

// Limits of a definition.
const (
	MaxSteps  = 100  // of a workflow, including handlers
	MaxItems  = 1000 // of a forEach
	MaxInputs = 64

	MaxPayload     = 8 << 20 // maximum bytes of a webhook's body or an event
	DefaultPayload = 1 << 20
)

// Workflow is the specification of the custom resource, in the same JSON.
type Workflow struct {
	// Name is the workflow's name, which its own steps must not call, since that would never end.
	Name string `json:"name,omitempty"`
	// Suspend stops triggers from starting runs.
	Suspend bool    `json:"suspend,omitempty"`
	Inputs  []Input `json:"inputs,omitempty"`
	// Connections are the names that steps and triggers may use. The connections themselves are not part of a definition.
	Connections []ConnectionRef `json:"connections,omitempty"`
	Triggers    []Trigger       `json:"triggers,omitempty"`
	Timeout     Duration        `json:"timeout,omitempty"` // of a run; default 1 h
	Concurrency *Concurrency    `json:"concurrency,omitempty"`
	Steps       []StepSpec      `json:"steps"`
	// OnSuccess, OnFailure and Always are handlers that run after the steps.
	OnSuccess []StepSpec `json:"onSuccess,omitempty"`
	OnFailure []StepSpec `json:"onFailure,omitempty"`
	Always    []StepSpec `json:"always,omitempty"`
	// Outputs are the outputs of a run by name: templates that can use all steps.
	Outputs map[string]json.RawMessage `json:"outputs,omitempty"`
	History *History                   `json:"history,omitempty"`
}

// Parse parses the specification of a resource with the given name. It ignores fields that are not part of a definition.
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
	Type        InputType       `json:"type,omitempty"` // default string
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

// Trigger starts runs. Only the field of its type is set.
type Trigger struct {
	Name      string         `json:"name"`
	Type      TriggerType    `json:"type"`
	Scheduled *ScheduledSpec `json:"scheduled,omitempty"`
	Webhook   *WebhookSpec   `json:"webhook,omitempty"`
	Event     *EventSpec     `json:"event,omitempty"`
	API       *APISpec       `json:"api,omitempty"`
	// Inputs are templates of the run's inputs, which can use trigger.
	Inputs map[string]json.RawMessage `json:"inputs,omitempty"`
}

// Missed decides about ticks that were due while no scheduler was running.
type Missed string

// Values of Missed.
const (
	Skip    Missed = "Skip"
	RunOnce Missed = "RunOnce"
	RunAll  Missed = "RunAll"
)

// ScheduledSpec is a cron line.
type ScheduledSpec struct {
	Cron     string `json:"cron"`
	TimeZone string `json:"timeZone,omitempty"` // default UTC
	// StartingDeadline is how late a tick may fire; zero means no limit.
	StartingDeadline Duration `json:"startingDeadline,omitempty"`
	Missed           Missed   `json:"missed,omitempty"` // default RunOnce
}

// WebhookSpec is a path; a POST to it starts a run.
type WebhookSpec struct {
	Path string `json:"path"`
	// Auth authenticates calls. Without it, an API token is required.
	Auth    *WebhookAuth `json:"auth,omitempty"`
	Respond string       `json:"respond,omitempty"` // Accepted (default) or WaitForResult
	// MaxPayloadBytes bounds a body; the default is DefaultPayload.
	MaxPayloadBytes int64 `json:"maxPayloadBytes,omitempty"`
}

// WebhookAuth authenticates calls of a webhook.
type WebhookAuth struct {
	HMACSecretRef SecretRef `json:"hmacSecretRef"` // the key that signs bodies
}

// SecretRef refers to a key of a Secret in the workflow's namespace.
type SecretRef struct {
	Name string `json:"name"`
	Key  string `json:"key,omitempty"` // default hmac
}

// ConnectionRef refers to one of the workflow's connections.
type ConnectionRef struct {
	Name string `json:"name"`
}

// EventSpec selects events that start runs.
type EventSpec struct {
	Source        string        `json:"source"` // rabbitmq, kafka or kubernetes
	ConnectionRef ConnectionRef `json:"connectionRef,omitzero"`
	Name          string        `json:"name,omitempty"`      // of the queue, the topic, or the kind
	Filter        string        `json:"filter,omitempty"`    // CEL, bool
	DedupeKey     string        `json:"dedupeKey,omitempty"` // CEL, string
	// MaxPayloadBytes bounds a message; the default is DefaultPayload.
	MaxPayloadBytes int64 `json:"maxPayloadBytes,omitempty"`
}

// APISpec configures starts with the REST API.
type APISpec struct {
	IdempotencyKeyHeader string `json:"idempotencyKeyHeader,omitempty"`
}

// ConcurrencyPolicy decides what happens to a run that exceeds the limit.
type ConcurrencyPolicy string

// Values of ConcurrencyPolicy.
const (
	QueueRun       ConcurrencyPolicy = "Queue"
	SkipRun        ConcurrencyPolicy = "Skip"
	CancelPrevious ConcurrencyPolicy = "CancelPrevious"
)

// Concurrency bounds the active runs with the same key.
type Concurrency struct {
	Max    int               `json:"max"`
	Policy ConcurrencyPolicy `json:"policy,omitempty"` // default Queue
	Key    string            `json:"key,omitempty"`    // CEL; default one key for all runs
}

// History limits how many ended runs are kept, and for how long.
type History struct {
	Successful *int     `json:"successful,omitempty"` // default 10
	Failed     *int     `json:"failed,omitempty"`     // default 10
	TTL        Duration `json:"ttl,omitempty"`        // default 168 h
}

// StepSpec is one step of the specification.
type StepSpec struct {
	Name  string   `json:"name"`
	Needs []string `json:"needs,omitempty"`
	When  string   `json:"when,omitempty"` // CEL, bool
	Type  string   `json:"type"`
	// With is the configuration of the type; strings may contain ${{ CEL }}.
	With    json.RawMessage `json:"with,omitempty"`
	ForEach *ForEach        `json:"forEach,omitempty"`
	Timeout Duration        `json:"timeout,omitempty"` // of an attempt; default only the run's timeout
	Retry   *RetrySpec      `json:"retry,omitempty"`
	OnError OnError         `json:"onError,omitempty"` // default Fail
	// Outputs are templates by name, which can use result, the step's output.
	Outputs map[string]json.RawMessage `json:"outputs,omitempty"`
}

// OnError decides what a failed step does to its run.
type OnError string

// Values of OnError.
const (
	Fail     OnError = "Fail"     // the run fails
	Continue OnError = "Continue" // the run continues as if the step had succeeded
)

// ForEach runs a step once for each item of a list.
type ForEach struct {
	// Items is a list, or a string ${{ CEL }} that returns one.
	Items json.RawMessage `json:"items"`
	// Parallelism bounds the items that run at a time; the default is 10.
	Parallelism int `json:"parallelism,omitempty"`
}

// RetrySpec configures the retries of a failed step.
type RetrySpec struct {
	Attempts int      `json:"attempts"`           // in total, 1 to 20
	Delay    Duration `json:"delay,omitempty"`    // before the second attempt; default 1 s
	MaxDelay Duration `json:"maxDelay,omitempty"` // default 5 min
	Factor   float64  `json:"factor,omitempty"`   // default 2
	// JitterPercent is the random share of the delay; the default is 20.
	JitterPercent *int `json:"jitterPercent,omitempty"`
}

// Duration is written in Go's format: "1h30m".
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a duration, such as 30s or 1h30m", text)
	}
	*d = Duration(parsed)
	return nil
}
