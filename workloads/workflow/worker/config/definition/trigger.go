// SPDX-License-Identifier: Apache-2.0

package definition

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/common/types"
)

const maxTriggers = 32

// EventKinds are the kinds whose changes can start runs.
var EventKinds = []string{"Deployment", "Event", "Job", "Pipeline", "Pod", "StatefulSet"}

var (
	webhookForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]*[a-z0-9])?(/[a-z0-9]([a-z0-9._-]*[a-z0-9])?)*$`)
	headerForm  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{0,63}$`)
)

// trigger is a compiled trigger.
type trigger struct {
	spec           *Trigger
	schedule       *schedule
	filter, dedupe *expression
	inputs         map[string]*template
}

// trigger checks and compiles the i-th trigger.
func (p *Program) trigger(c *compiler, i int) {
	t := &trigger{spec: &p.workflow.Triggers[i]}
	p.triggers = append(p.triggers, t)
	path := fmt.Sprintf("spec.triggers[%d]", i)
	if i == maxTriggers {
		c.problems.add("spec.triggers", "more than %d triggers", maxTriggers)
	}
	if !nameForm.MatchString(t.spec.Name) {
		c.problems.add(path+".name", nameRule)
	}
	for j := range i {
		other := &p.workflow.Triggers[j]
		if other.Name == t.spec.Name {
			c.problems.add(path+".name", "%s is already the name of spec.triggers[%d]", t.spec.Name, j)
		}
		if w := t.spec.Webhook; w != nil && other.Webhook != nil && other.Webhook.Path == w.Path {
			c.problems.add(path+".webhook.path", "is already the path of spec.triggers[%d]", j)
		}
	}
	oneOf(c.problems, path+".type", t.spec.Type, Manual, Scheduled, Webhook, Event, API)
	for _, settings := range []struct {
		kind  TriggerType
		given bool
	}{{Scheduled, t.spec.Scheduled != nil}, {Webhook, t.spec.Webhook != nil}, {Event, t.spec.Event != nil}, {API, t.spec.API != nil}} {
		if settings.given && settings.kind != t.spec.Type {
			c.problems.add(path+"."+strings.ToLower(string(settings.kind)), "is only valid for triggers of type %s; the type is %s", settings.kind, t.spec.Type)
		}
	}
	only := func(e *expression) error {
		if e.uses["steps"] || e.uses["inputs"] || e.uses["run"] {
			return errors.New("only trigger is available here: there is no run yet")
		}
		return e.visible(false, false)
	}
	switch t.spec.Type {
	case Scheduled:
		t.scheduled(c.problems, path)
	case Webhook:
		t.webhook(c.problems, path)
	case Event:
		t.event(p, c, path, only)
	case API:
		if api := t.spec.API; api != nil && api.IdempotencyKeyHeader != "" && !headerForm.MatchString(api.IdempotencyKeyHeader) {
			c.problems.add(path+".api.idempotencyKeyHeader", "want the name of a header")
		}
	}
	t.inputs = c.templates(path+".inputs", t.spec.Inputs, only)
	for _, name := range slices.Sorted(maps.Keys(t.inputs)) {
		if _, known := p.declared(name); !known {
			c.problems.add(join(path+".inputs", name), "unknown input; valid are %s", p.inputNames())
		}
	}
}

func (p *Program) declared(name string) (*Input, bool) {
	for i := range p.workflow.Inputs {
		if p.workflow.Inputs[i].Name == name {
			return &p.workflow.Inputs[i], true
		}
	}
	return nil, false
}

func (t *trigger) scheduled(problems *Problems, path string) {
	s := t.spec.Scheduled
	if s == nil || s.Cron == "" {
		problems.add(path+".scheduled.cron", "is required")
		return
	}
	zone, err := Zone(s.TimeZone)
	if err != nil {
		problems.add(path+".scheduled.timeZone", "%s", err)
		zone = time.UTC
	}
	if t.schedule, err = parseCron(s.Cron, zone); err != nil {
		problems.add(path+".scheduled.cron", "%s", err)
	}
	duration(problems, path+".scheduled.startingDeadline", s.StartingDeadline)
	oneOf(problems, path+".scheduled.missed", s.Missed, "", Skip, RunOnce, RunAll)
}

func (t *trigger) webhook(problems *Problems, path string) {
	w := t.spec.Webhook
	if w == nil || w.Path == "" {
		problems.add(path+".webhook.path", "is required")
		return
	}
	if len(w.Path) > 128 || !webhookForm.MatchString(w.Path) {
		problems.add(path+".webhook.path", "want lower-case letters, digits, ., - and _, in parts separated by /, at most 128 characters")
	}
	if w.Auth != nil && w.Auth.HMACSecretRef.Name == "" {
		problems.add(path+".webhook.auth.hmacSecretRef.name", "is required")
	}
	payload(problems, path+".webhook.maxPayloadBytes", w.MaxPayloadBytes)
	oneOf(problems, path+".webhook.respond", w.Respond, "", "Accepted", "WaitForResult")
}

// payload checks a limit of payloads.
func payload(problems *Problems, path string, bytes int64) {
	if bytes < 0 || bytes > MaxPayload {
		problems.add(path, "want 1 to %d bytes; the default is %d", MaxPayload, DefaultPayload)
	}
}

func (t *trigger) event(p *Program, c *compiler, path string, only func(*expression) error) {
	e := t.spec.Event
	if e == nil {
		c.problems.add(path+".event", "is required")
		return
	}
	oneOf(c.problems, path+".event.source", e.Source, "rabbitmq", "kafka", "kubernetes")
	if e.Name == "" {
		c.problems.add(path+".event.name", "is required: the queue, the topic, or the kind")
	}
	if e.Source != "kubernetes" && e.ConnectionRef.Name == "" {
		c.problems.add(path+".event.connectionRef.name", "is required")
	}
	switch {
	case e.Source == "kubernetes" && e.Name != "" && !slices.Contains(EventKinds, e.Name):
		c.problems.add(path+".event.name", "source kubernetes supports the kinds %s", strings.Join(EventKinds, ", "))
	case e.Source != "kubernetes":
		p.connection(c.problems, path+".event.connectionRef.name", e.ConnectionRef.Name)
	}
	payload(c.problems, path+".event.maxPayloadBytes", e.MaxPayloadBytes)
	returns := func(want *types.Type) func(*expression) error {
		return func(e *expression) error {
			if !e.is(want) {
				return fmt.Errorf("want a %s, got %s", want, e.result)
			}
			return only(e)
		}
	}
	if e.Filter != "" {
		t.filter = c.expression(path+".event.filter", e.Filter, returns(types.BoolType))
	}
	if e.DedupeKey != "" {
		t.dedupe = c.expression(path+".event.dedupeKey", e.DedupeKey, returns(types.StringType))
	}
}

// Start evaluates an event at a trigger. It reports whether the event starts a run, and returns its inputs and its deduplication
// key, or "".
func (p *Program) Start(name string, event TriggerInfo) (starts bool, inputs map[string]any, dedupe string, err error) {
	t := p.find(name)
	if t == nil {
		return false, nil, "", fmt.Errorf("there is no trigger %s", name)
	}
	scope := &Scope{Trigger: event}
	if t.filter != nil {
		value, err := t.filter.eval(scope)
		if err != nil {
			return false, nil, "", fmt.Errorf("event.filter: %w", err)
		}
		yes, ok := value.(bool)
		if !ok {
			return false, nil, "", errors.New("event.filter: the expression did not return a bool")
		}
		if !yes {
			return false, nil, "", nil
		}
	}
	if t.dedupe != nil {
		value, err := t.dedupe.eval(scope)
		if err != nil {
			return false, nil, "", fmt.Errorf("event.dedupeKey: %w", err)
		}
		var ok bool
		if dedupe, ok = value.(string); !ok {
			return false, nil, "", errors.New("event.dedupeKey: the expression did not return a string")
		}
	}
	inputs, err = renderAll(t.inputs, scope, "inputs")
	return err == nil, inputs, dedupe, err
}

// Next returns the first tick of a Scheduled trigger after a time, or false if there is none.
func (p *Program) Next(name string, after time.Time) (time.Time, bool) {
	if t := p.find(name); t != nil && t.schedule != nil {
		return t.schedule.next(after)
	}
	return time.Time{}, false
}

func (p *Program) find(name string) *trigger {
	for _, t := range p.triggers {
		if t.spec.Name == name {
			return t
		}
	}
	return nil
}
