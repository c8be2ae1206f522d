// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
)

// WorkflowSpec is what runs, and what starts it. Texts may hold expressions: ${{ CEL }}, see docs/workflow-language.md.
//
// +kubebuilder:validation:XValidation:rule="self.steps.size() + (has(self.onSuccess) ? self.onSuccess.size() : 0) + (has(self.onFailure) ? self.onFailure.size() : 0) + (has(self.always) ? self.always.size() : 0) <= 100",message="a workflow has at most 100 steps, its handlers included",fieldPath=".steps"
type WorkflowSpec struct {
	// suspend keeps triggers from starting runs. Runs that are under way go on.
	// +optional
	Suspend bool `json:"suspend,omitempty"`

	// platformRef names the Platform whose Workflow service runs it. The default is the only Platform of the namespace.
	// +optional
	PlatformRef *common.PlatformReference `json:"platformRef,omitempty"`

	// inputs are the values that a run is started with.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	// +optional
	Inputs []Input `json:"inputs,omitempty"`

	// connections are the servers that steps and triggers name, with their credentials.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=32
	// +optional
	Connections []Connection `json:"connections,omitempty"`

	// triggers start runs.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=32
	// +optional
	Triggers []Trigger `json:"triggers,omitempty"`

	// timeout of a run.
	// +kubebuilder:default="1h"
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s') && duration(self) <= duration('720h')",message="timeout must be more than 0s and at most 720h"
	// +optional
	Timeout metav1.Duration `json:"timeout,omitzero"`

	// concurrency bounds how many runs are under way at a time.
	// +optional
	Concurrency *Concurrency `json:"concurrency,omitempty"`

	// steps run as soon as those that they need have ended.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=100
	// +required
	Steps []Step `json:"steps,omitempty"`

	// onSuccess are steps that run when all others ended well.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	// +optional
	OnSuccess []Step `json:"onSuccess,omitempty"`

	// onFailure are steps that run when the run failed, was cancelled or had its time.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	// +optional
	OnFailure []Step `json:"onFailure,omitempty"`

	// always are steps that run at the end, whatever it is.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	// +optional
	Always []Step `json:"always,omitempty"`

	// outputs are what a run gives, by name; they see all steps.
	// +kubebuilder:validation:MaxProperties=64
	// +optional
	Outputs map[string]apiextensionsv1.JSON `json:"outputs,omitempty"`

	// history is how much of the ended runs is kept.
	// +kubebuilder:default={}
	// +optional
	History History `json:"history,omitzero"`
}

// Input is one value that a run is started with.
type Input struct {
	// name by which expressions see it: inputs.<name>.
	// +kubebuilder:validation:Pattern=`^[a-zA-Z_][a-zA-Z0-9_]{0,62}$`
	// +required
	Name string `json:"name,omitempty"`

	// type of the value.
	// +kubebuilder:default=string
	// +kubebuilder:validation:Enum=string;integer;number;boolean;object;array
	// +optional
	Type string `json:"type,omitempty"`

	// description for people.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Description string `json:"description,omitempty"`

	// required inputs must be given.
	// +optional
	Required bool `json:"required,omitempty"`

	// default is used when nothing is given.
	// +optional
	Default *apiextensionsv1.JSON `json:"default,omitempty"`
}

// Connection is a server with its credentials, under a name of this workflow.
// +kubebuilder:validation:XValidation:rule="has(self.backend) == (self.ref.kind == 'Platform')",message="backend must be set when ref.kind is Platform, and only then",fieldPath=".backend"
type Connection struct {
	// name that steps and triggers use.
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`
	// +required
	Name string `json:"name,omitempty"`

	// ref names where address and credentials come from. A step of type http takes from a Secret of type http: token, or
	// username and password, or headers as header.<name>; and uri, below which its URL must be.
	// +required
	Ref common.ConnectionReference `json:"ref,omitzero"`

	// backend of the Platform that ref names.
	// +kubebuilder:validation:Enum=postgresql;rabbitmq;kafka;clickhouse
	// +optional
	Backend string `json:"backend,omitempty"`
}

// TriggerType is what starts runs.
// +kubebuilder:validation:Enum=Manual;Scheduled;Webhook;Event;API
type TriggerType string

// The types of triggers.
const (
	TriggerManual    TriggerType = "Manual"
	TriggerScheduled TriggerType = "Scheduled"
	TriggerWebhook   TriggerType = "Webhook"
	TriggerEvent     TriggerType = "Event"
	TriggerAPI       TriggerType = "API"
)

// Trigger starts runs.
// +kubebuilder:validation:XValidation:rule="has(self.scheduled) == (self.type == 'Scheduled')",message="scheduled must be set when type is Scheduled, and only then",fieldPath=".scheduled"
// +kubebuilder:validation:XValidation:rule="has(self.webhook) == (self.type == 'Webhook')",message="webhook must be set when type is Webhook, and only then",fieldPath=".webhook"
// +kubebuilder:validation:XValidation:rule="has(self.event) == (self.type == 'Event')",message="event must be set when type is Event, and only then",fieldPath=".event"
// +kubebuilder:validation:XValidation:rule="!has(self.api) || self.type == 'API'",message="api may be set only when type is API",fieldPath=".api"
type Trigger struct {
	// name of the trigger.
	// +kubebuilder:validation:Pattern=`^[a-z]([a-z0-9_-]{0,61}[a-z0-9_])?$`
	// +required
	Name string `json:"name,omitempty"`

	// type of the trigger: Manual (a person, or a WorkflowRun), Scheduled, Webhook, Event or API (a program).
	// +required
	Type TriggerType `json:"type,omitempty"`

	// scheduled is a cron line.
	// +optional
	Scheduled *ScheduledTrigger `json:"scheduled,omitempty"`

	// webhook is a path that a POST to starts a run.
	// +optional
	Webhook *WebhookTrigger `json:"webhook,omitempty"`

	// event are messages that start runs.
	// +optional
	Event *EventTrigger `json:"event,omitempty"`

	// api is how programs start runs.
	// +optional
	API *APITrigger `json:"api,omitempty"`

	// inputs of the run, by name: they see trigger.
	// +kubebuilder:validation:MaxProperties=64
	// +optional
	Inputs map[string]apiextensionsv1.JSON `json:"inputs,omitempty"`
}

// ScheduledTrigger is a cron line.
type ScheduledTrigger struct {
	// cron line of five fields, or @hourly, @daily, @weekly, @monthly, @yearly.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +required
	Cron string `json:"cron,omitempty"`

	// timeZone that the line is in, such as Europe/Berlin.
	// +kubebuilder:default=UTC
	// +kubebuilder:validation:MaxLength=64
	// +optional
	TimeZone string `json:"timeZone,omitempty"`

	// startingDeadline is how late a tick may still start a run; without it missed alone decides.
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s') && duration(self) <= duration('720h')",message="startingDeadline must be more than 0s and at most 720h"
	// +optional
	StartingDeadline *metav1.Duration `json:"startingDeadline,omitempty"`

	// missed says what becomes of ticks that nobody could fire at their time: Skip forgets them, RunOnce makes up for all of
	// them by one run, RunAll by one run each.
	// +kubebuilder:default=RunOnce
	// +kubebuilder:validation:Enum=Skip;RunOnce;RunAll
	// +optional
	Missed string `json:"missed,omitempty"`
}

// WebhookTrigger is a path that a POST to starts a run.
type WebhookTrigger struct {
	// path below /api/v1/webhooks/. The oldest Workflow of the namespace has it when several want it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([a-z0-9._-]*[a-z0-9])?(/[a-z0-9]([a-z0-9._-]*[a-z0-9])?)*$`
	// +required
	Path string `json:"path,omitempty"`

	// auth is how a call proves who sent it; without it a token of the API is needed.
	// +optional
	Auth *WebhookAuth `json:"auth,omitempty"`

	// respond is when the call is answered: Accepted at once, or WaitForResult with the run's outputs.
	// +kubebuilder:default=Accepted
	// +kubebuilder:validation:Enum=Accepted;WaitForResult
	// +optional
	Respond string `json:"respond,omitempty"`

	// maxPayloadBytes bounds the body; so does maxOutputBytes of the Platform.
	// +kubebuilder:default=1048576
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=8388608
	// +optional
	MaxPayloadBytes int64 `json:"maxPayloadBytes,omitempty"`
}

// WebhookAuth is how a call proves who sent it.
type WebhookAuth struct {
	// hmacSecretRef names the key that bodies are signed with: the headers are X-Timestamp, in seconds since 1970, and
	// X-Signature-256, sha256= and the hexadecimal HMAC-SHA-256 of the timestamp, a dot and the body.
	// +required
	HMACSecretRef HMACSecretReference `json:"hmacSecretRef,omitzero"`
}

// HMACSecretReference names a key in a Secret of the same namespace, or in the destination of a vault Secret.
// +kubebuilder:validation:XValidation:rule="self.kind != 'Platform'",message="kind must be Secret or VaultSecret",fieldPath=".kind"
type HMACSecretReference struct {
	// kind of what is named: Secret or VaultSecret.
	// +kubebuilder:default=Secret
	// +optional
	Kind common.ConnectionKind `json:"kind,omitempty"`

	// name of the Secret.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Subdomain().validate(self).hasValue()",message="must be the name of an object: lower-case letters, digits, '-' and '.', without namespace or path"
	// +required
	Name string `json:"name,omitempty"`

	// key of the Secret; at least 16 bytes.
	// +kubebuilder:default=hmac
	// +kubebuilder:validation:Pattern=`^[-._a-zA-Z0-9]{1,253}$`
	// +optional
	Key string `json:"key,omitempty"`
}

// EventTrigger are messages that start runs.
// +kubebuilder:validation:XValidation:rule="has(self.connectionRef) == (self.source != 'kubernetes')",message="connectionRef must be set for rabbitmq and kafka, and only then",fieldPath=".connectionRef"
type EventTrigger struct {
	// source of the messages.
	// +kubebuilder:validation:Enum=rabbitmq;kafka;kubernetes
	// +required
	Source string `json:"source,omitempty"`

	// connectionRef names one of spec.connections.
	// +optional
	ConnectionRef *LocalReference `json:"connectionRef,omitempty"`

	// name of the queue, of the topic, or of the kind: Event, Pod, Job, Deployment, StatefulSet or Pipeline.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=249
	// +required
	Name string `json:"name,omitempty"`

	// filter is a CEL expression over trigger: a message for which it is false starts nothing.
	// +kubebuilder:validation:MaxLength=16384
	// +optional
	Filter string `json:"filter,omitempty"`

	// dedupeKey is a CEL expression over trigger that gives a text: of messages with the same text one starts a run.
	// +kubebuilder:validation:MaxLength=16384
	// +optional
	DedupeKey string `json:"dedupeKey,omitempty"`

	// maxPayloadBytes bounds a message; so does maxOutputBytes of the Platform. A larger one is counted in status, and starts
	// nothing.
	// +kubebuilder:default=1048576
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=8388608
	// +optional
	MaxPayloadBytes int64 `json:"maxPayloadBytes,omitempty"`
}

// LocalReference names something of this workflow.
type LocalReference struct {
	// name of it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +required
	Name string `json:"name,omitempty"`
}

// APITrigger is how programs start runs.
type APITrigger struct {
	// idempotencyKeyHeader is the header whose value makes a start count once.
	// +kubebuilder:default=Idempotency-Key
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9][A-Za-z0-9-]{0,63}$`
	// +optional
	IdempotencyKeyHeader string `json:"idempotencyKeyHeader,omitempty"`
}

// Concurrency bounds how many runs with the same key are under way at a time.
type Concurrency struct {
	// max runs at a time.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000
	// +required
	Max int32 `json:"max,omitempty"`

	// policy says what becomes of one more: it is queued, refused, or takes the place of the oldest.
	// +kubebuilder:default=Queue
	// +kubebuilder:validation:Enum=Queue;Skip;CancelPrevious
	// +optional
	Policy string `json:"policy,omitempty"`

	// key is a CEL expression over inputs and trigger that gives a text; without it all runs count together.
	// +kubebuilder:validation:MaxLength=16384
	// +optional
	Key string `json:"key,omitempty"`
}

// History is how much of the ended runs is kept.
type History struct {
	// successful runs.
	// +kubebuilder:default=10
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10000
	// +optional
	Successful *int32 `json:"successful,omitempty"`

	// failed runs, cancelled and timed out ones included.
	// +kubebuilder:default=10
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10000
	// +optional
	Failed *int32 `json:"failed,omitempty"`

	// ttl is how long an ended run is kept at most.
	// +kubebuilder:default="168h"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1m') && duration(self) <= duration('87600h')",message="ttl must be from 1m to 87600h"
	// +optional
	TTL metav1.Duration `json:"ttl,omitzero"`
}

// Step is one step.
// +kubebuilder:validation:XValidation:rule="!has(self.needs) || !(self.name in self.needs)",message="a step cannot need itself",fieldPath=".needs"
type Step struct {
	// name by which others need it, and expressions see it: steps.<name>.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z]([a-z0-9_-]*[a-z0-9_])?$`
	// +required
	Name string `json:"name,omitempty"`

	// needs are the steps that must have ended before.
	// +listType=set
	// +kubebuilder:validation:MaxItems=99
	// +kubebuilder:validation:items:MaxLength=63
	// +optional
	Needs []string `json:"needs,omitempty"`

	// when is a CEL expression that gives a bool; the step is skipped when it is false.
	// +kubebuilder:validation:MaxLength=16384
	// +optional
	When string `json:"when,omitempty"`

	// type of the step: http, script, sql, publish, notify, pipeline, workflow, approval, wait, transform or job.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +required
	Type string `json:"type,omitempty"`

	// with is the configuration of the type.
	// +optional
	With *apiextensionsv1.JSON `json:"with,omitempty"`

	// forEach runs the step once for each item of a list.
	// +optional
	ForEach *ForEach `json:"forEach,omitempty"`

	// timeout of one attempt; without it the run's timeout is all.
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s') && duration(self) <= duration('720h')",message="timeout must be more than 0s and at most 720h"
	// +optional
	Timeout *metav1.Duration `json:"timeout,omitempty"`

	// retry repeats failed attempts.
	// +optional
	Retry *Retry `json:"retry,omitempty"`

	// onError says what a failed step does to its run: Fail, or Continue as if it had ended well.
	// +kubebuilder:default=Fail
	// +kubebuilder:validation:Enum=Fail;Continue
	// +optional
	OnError string `json:"onError,omitempty"`

	// outputs are values by name, which see result, the step's output.
	// +kubebuilder:validation:MaxProperties=64
	// +optional
	Outputs map[string]apiextensionsv1.JSON `json:"outputs,omitempty"`
}

// ForEach runs a step once for each item of a list.
type ForEach struct {
	// items is a list, or a text ${{ CEL }} that gives one; at most 1,000.
	// +required
	Items *apiextensionsv1.JSON `json:"items,omitempty"`

	// parallelism is how many items run at a time.
	// +kubebuilder:default=10
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +optional
	Parallelism int32 `json:"parallelism,omitempty"`
}

// Retry repeats failed attempts.
type Retry struct {
	// attempts in all.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=20
	// +required
	Attempts int32 `json:"attempts,omitempty"`

	// delay before the second attempt.
	// +kubebuilder:default="1s"
	// +optional
	Delay metav1.Duration `json:"delay,omitzero"`

	// maxDelay bounds the delay, which grows.
	// +kubebuilder:default="5m"
	// +optional
	MaxDelay metav1.Duration `json:"maxDelay,omitzero"`

	// factor by which the delay grows, as a decimal number from 1 to 10.
	// +kubebuilder:default=2
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10
	// +optional
	Factor int32 `json:"factor,omitempty"`

	// jitterPercent is the share of the delay that is random.
	// +kubebuilder:default=20
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	// +optional
	JitterPercent *int32 `json:"jitterPercent,omitempty"`
}
