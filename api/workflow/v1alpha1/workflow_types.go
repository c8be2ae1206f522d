// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
)

// WorkflowSpec defines steps and triggers. Strings may contain expressions: ${{ CEL }}, see docs/workflow-language.md.
//
// +kubebuilder:validation:XValidation:rule="self.steps.size() + (has(self.onSuccess) ? self.onSuccess.size() : 0) + (has(self.onFailure) ? self.onFailure.size() : 0) + (has(self.always) ? self.always.size() : 0) <= 100",message="a workflow has at most 100 steps, its handlers included",fieldPath=".steps"
type WorkflowSpec struct {
	// suspend prevents triggers from starting runs. Runs that have started continue.
	// +optional
	Suspend bool `json:"suspend,omitempty"`

	// platformRef names the Platform whose Workflow service runs it. The default is the only Platform of the namespace.
	// +optional
	PlatformRef *common.PlatformReference `json:"platformRef,omitempty"`

	// inputs of a run.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	// +optional
	Inputs []Input `json:"inputs,omitempty"`

	// connections are servers for steps and triggers, with their credentials.
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

	// concurrency limits the number of concurrent runs.
	// +optional
	Concurrency *Concurrency `json:"concurrency,omitempty"`

	// steps run as soon as the steps that they need have ended.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=100
	// +required
	Steps []Step `json:"steps,omitempty"`

	// onSuccess are steps that run when the run succeeded.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	// +optional
	OnSuccess []Step `json:"onSuccess,omitempty"`

	// onFailure are steps that run when the run failed, timed out or was cancelled.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	// +optional
	OnFailure []Step `json:"onFailure,omitempty"`

	// always are steps that run at the end in any case.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	// +optional
	Always []Step `json:"always,omitempty"`

	// outputs of a run, by name. Their expressions see all steps.
	// +kubebuilder:validation:MaxProperties=64
	// +optional
	Outputs map[string]apiextensionsv1.JSON `json:"outputs,omitempty"`

	// history limits how many runs that have ended are kept.
	// +kubebuilder:default={}
	// +optional
	History History `json:"history,omitzero"`
}

// Input is one input of a run.
type Input struct {
	// name of the input in expressions: inputs.<name>.
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

	// required is true if the input must be set.
	// +optional
	Required bool `json:"required,omitempty"`

	// default value.
	// +optional
	Default *apiextensionsv1.JSON `json:"default,omitempty"`
}

// Connection is a server with its credentials.
// +kubebuilder:validation:XValidation:rule="has(self.backend) == (self.ref.kind == 'Platform')",message="backend must be set when ref.kind is Platform, and only then",fieldPath=".backend"
type Connection struct {
	// name of the connection for steps and triggers.
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`
	// +required
	Name string `json:"name,omitempty"`

	// ref names the source of the address and the credentials. From a Secret of type http, a step of type http uses token, or
	// username and password, or headers as header.<name>; and uri, which is the prefix that its URL must have.
	// +required
	Ref common.ConnectionReference `json:"ref,omitzero"`

	// backend of the Platform that ref names.
	// +kubebuilder:validation:Enum=postgresql;rabbitmq;kafka;clickhouse
	// +optional
	Backend string `json:"backend,omitempty"`
}

// TriggerType is the type of a trigger.
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

	// scheduled starts runs at the times of a cron schedule.
	// +optional
	Scheduled *ScheduledTrigger `json:"scheduled,omitempty"`

	// webhook starts a run for each POST to a path.
	// +optional
	Webhook *WebhookTrigger `json:"webhook,omitempty"`

	// event starts a run for each message.
	// +optional
	Event *EventTrigger `json:"event,omitempty"`

	// api lets programs start runs.
	// +optional
	API *APITrigger `json:"api,omitempty"`

	// inputs of the run, by name. Their expressions see trigger.
	// +kubebuilder:validation:MaxProperties=64
	// +optional
	Inputs map[string]apiextensionsv1.JSON `json:"inputs,omitempty"`
}

// ScheduledTrigger starts runs at the times of a cron schedule.
type ScheduledTrigger struct {
	// cron schedule with five fields, or @hourly, @daily, @weekly, @monthly, @yearly.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +required
	Cron string `json:"cron,omitempty"`

	// timeZone of the schedule, such as Europe/Berlin.
	// +kubebuilder:default=UTC
	// +kubebuilder:validation:MaxLength=64
	// +optional
	TimeZone string `json:"timeZone,omitempty"`

	// startingDeadline is how late a run may start. Without it, missed decides.
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s') && duration(self) <= duration('720h')",message="startingDeadline must be more than 0s and at most 720h"
	// +optional
	StartingDeadline *metav1.Duration `json:"startingDeadline,omitempty"`

	// missed controls what happens to times at which no run could be started: Skip ignores them, RunOnce starts one run for all of
	// them, RunAll one run for each.
	// +kubebuilder:default=RunOnce
	// +kubebuilder:validation:Enum=Skip;RunOnce;RunAll
	// +optional
	Missed string `json:"missed,omitempty"`
}

// WebhookTrigger starts a run for each POST to a path.
type WebhookTrigger struct {
	// path below /api/v1/webhooks/. If several Workflows of the namespace claim it, the oldest one gets it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([a-z0-9._-]*[a-z0-9])?(/[a-z0-9]([a-z0-9._-]*[a-z0-9])?)*$`
	// +required
	Path string `json:"path,omitempty"`

	// auth of calls. Without it an API token is needed.
	// +optional
	Auth *WebhookAuth `json:"auth,omitempty"`

	// respond is Accepted, to answer at once, or WaitForResult, to answer with the outputs of the run.
	// +kubebuilder:default=Accepted
	// +kubebuilder:validation:Enum=Accepted;WaitForResult
	// +optional
	Respond string `json:"respond,omitempty"`

	// maxPayloadBytes limits the body, as maxOutputBytes of the service does.
	// +kubebuilder:default=1048576
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=8388608
	// +optional
	MaxPayloadBytes int64 `json:"maxPayloadBytes,omitempty"`
}

// WebhookAuth authenticates calls of a webhook.
type WebhookAuth struct {
	// hmacSecretRef names the key that signs bodies. The headers are X-Timestamp, in seconds since 1970, and
	// X-Signature-256: sha256= and the hexadecimal HMAC-SHA-256 of the timestamp, a dot and the body.
	// +required
	HMACSecretRef HMACSecretReference `json:"hmacSecretRef,omitzero"`
}

// HMACSecretReference names a key in a Secret of the same namespace, or in the destination of a vault Secret.
// +kubebuilder:validation:XValidation:rule="self.kind != 'Platform'",message="kind must be Secret or VaultSecret",fieldPath=".kind"
type HMACSecretReference struct {
	// kind of the object: Secret or VaultSecret.
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

// EventTrigger starts a run for each message.
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

	// filter is a CEL expression over trigger. A message for which it is false starts no run.
	// +kubebuilder:validation:MaxLength=16384
	// +optional
	Filter string `json:"filter,omitempty"`

	// dedupeKey is a CEL expression over trigger that returns a string. Of messages with the same string, only one starts a run.
	// +kubebuilder:validation:MaxLength=16384
	// +optional
	DedupeKey string `json:"dedupeKey,omitempty"`

	// maxPayloadBytes limits a message, as maxOutputBytes of the service does. A larger one is counted in status and starts
	// no run.
	// +kubebuilder:default=1048576
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=8388608
	// +optional
	MaxPayloadBytes int64 `json:"maxPayloadBytes,omitempty"`
}

// LocalReference names a connection of this workflow.
type LocalReference struct {
	// name of the connection.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +required
	Name string `json:"name,omitempty"`
}

// APITrigger lets programs start runs.
type APITrigger struct {
	// idempotencyKeyHeader is the header with the idempotency key.
	// +kubebuilder:default=Idempotency-Key
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9][A-Za-z0-9-]{0,63}$`
	// +optional
	IdempotencyKeyHeader string `json:"idempotencyKeyHeader,omitempty"`
}

// Concurrency limits the number of concurrent runs with the same key.
type Concurrency struct {
	// max is the number of concurrent runs.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000
	// +required
	Max int32 `json:"max,omitempty"`

	// policy for one more run: it is queued, rejected, or replaces the oldest.
	// +kubebuilder:default=Queue
	// +kubebuilder:validation:Enum=Queue;Skip;CancelPrevious
	// +optional
	Policy string `json:"policy,omitempty"`

	// key is a CEL expression over inputs and trigger that returns a string. Without it all runs have the same key.
	// +kubebuilder:validation:MaxLength=16384
	// +optional
	Key string `json:"key,omitempty"`
}

// History limits how many runs that have ended are kept.
type History struct {
	// successful is the number of successful runs.
	// +kubebuilder:default=10
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10000
	// +optional
	Successful *int32 `json:"successful,omitempty"`

	// failed is the number of failed runs, including those that timed out or were cancelled.
	// +kubebuilder:default=10
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10000
	// +optional
	Failed *int32 `json:"failed,omitempty"`

	// ttl is how long a run is kept after it has ended.
	// +kubebuilder:default="168h"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1m') && duration(self) <= duration('87600h')",message="ttl must be from 1m to 87600h"
	// +optional
	TTL metav1.Duration `json:"ttl,omitzero"`
}

// Step is one step.
// +kubebuilder:validation:XValidation:rule="!has(self.needs) || !(self.name in self.needs)",message="a step cannot need itself",fieldPath=".needs"
type Step struct {
	// name of the step in needs, and in expressions: steps.<name>.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z]([a-z0-9_-]*[a-z0-9_])?$`
	// +required
	Name string `json:"name,omitempty"`

	// needs are the steps that must end before.
	// +listType=set
	// +kubebuilder:validation:MaxItems=99
	// +kubebuilder:validation:items:MaxLength=63
	// +optional
	Needs []string `json:"needs,omitempty"`

	// when is a CEL expression that returns a bool. The step is skipped if it is false.
	// +kubebuilder:validation:MaxLength=16384
	// +optional
	When string `json:"when,omitempty"`

	// type of the step: http, script, sql, publish, notify, pipeline, workflow, approval, wait, transform or job.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +required
	Type string `json:"type,omitempty"`

	// with configures the step, depending on its type.
	// +optional
	With *apiextensionsv1.JSON `json:"with,omitempty"`

	// forEach runs the step once for each item of a list.
	// +optional
	ForEach *ForEach `json:"forEach,omitempty"`

	// timeout of one attempt. Without it, only the timeout of the run applies.
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s') && duration(self) <= duration('720h')",message="timeout must be more than 0s and at most 720h"
	// +optional
	Timeout *metav1.Duration `json:"timeout,omitempty"`

	// retry repeats failed attempts.
	// +optional
	Retry *Retry `json:"retry,omitempty"`

	// onError is what a failed step does to its run: Fail, or Continue as if the step had succeeded.
	// +kubebuilder:default=Fail
	// +kubebuilder:validation:Enum=Fail;Continue
	// +optional
	OnError string `json:"onError,omitempty"`

	// outputs of the step, by name. Their expressions see result, the output of the step.
	// +kubebuilder:validation:MaxProperties=64
	// +optional
	Outputs map[string]apiextensionsv1.JSON `json:"outputs,omitempty"`
}

// ForEach runs a step once for each item of a list.
type ForEach struct {
	// items is a list, or a string ${{ CEL }} that returns one; at most 1,000.
	// +required
	Items *apiextensionsv1.JSON `json:"items,omitempty"`

	// parallelism is the number of items that run concurrently.
	// +kubebuilder:default=10
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +optional
	Parallelism int32 `json:"parallelism,omitempty"`
}

// Retry repeats failed attempts.
type Retry struct {
	// attempts is the maximum number of attempts.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=20
	// +required
	Attempts int32 `json:"attempts,omitempty"`

	// delay before the second attempt.
	// +kubebuilder:default="1s"
	// +optional
	Delay metav1.Duration `json:"delay,omitzero"`

	// maxDelay limits the delay.
	// +kubebuilder:default="5m"
	// +optional
	MaxDelay metav1.Duration `json:"maxDelay,omitzero"`

	// factor by which the delay grows, a decimal number from 1 to 10.
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
