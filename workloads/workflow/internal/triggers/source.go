// SPDX-License-Identifier: Apache-2.0

package triggers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/workflow/internal/catalog"
	"github.com/itechsmart/operator/workloads/workflow/internal/launch"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/step"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

const (
	firstPause, lastPause = 100 * time.Millisecond, 5 * time.Second
	// unknownErrors is the number of unknown errors after which an event is rejected.
	unknownErrors = 5
	// prefetch bounds the unfinished messages of one trigger, and budget their bytes.
	prefetch = 32
	budget   = 16 << 20
)

// source is the source of the events of one trigger. A changed one replaces the running one.
type source struct {
	id
	uid, kind, name string // kind: rabbitmq, kafka or kubernetes
	group           string // of Kafka consumers
	maxPayload      int64
	binding         backend.Binding
	missing         string // why it cannot start
}

// source returns the source of a trigger of type Event.
func (t *Triggers) source(e *catalog.Entry, trigger definition.Trigger) source {
	s := source{
		id: id{e.Workflow.Name, trigger.Name}, uid: string(e.Workflow.UID), kind: trigger.Event.Source, name: trigger.Event.Name,
		maxPayload: trigger.Event.MaxPayloadBytes,
		group:      "itechsmart.workflow." + t.options.Namespace + "." + e.Workflow.Name + "." + trigger.Name,
	}
	if s.maxPayload == 0 {
		s.maxPayload = definition.DefaultPayload
	}
	if s.kind == "kubernetes" {
		return s
	}
	var err error
	if s.binding, err = t.options.Bindings.Connection(e.Workflow.Name, trigger.Event.ConnectionRef.Name); err != nil {
		s.missing = err.Error()
	} else if s.binding.Type != s.kind {
		s.missing = fmt.Sprintf("connection %s is of type %q; want %s", trigger.Event.ConnectionRef.Name, s.binding.Type, s.kind)
	}
	return s
}

func (s source) same(as source) bool {
	return s.id == as.id && s.uid == as.uid && s.kind == as.kind && s.name == as.name && s.maxPayload == as.maxPayload && s.missing == as.missing &&
		maps.Equal(s.binding.Data(), as.binding.Data())
}

// inHand returns how many messages may be unfinished at a time.
func (s source) inHand() int { return int(max(1, min(prefetch, budget/s.maxPayload))) }

// runner is a running source.
type runner struct {
	source
	stop func()
	done chan struct{}
}

// sources starts and stops sources so that the wanted ones of a workflow run.
func (t *Triggers) sources(workflow string, wanted map[string]source) {
	kinds := map[id]source{}
	for _, s := range wanted {
		if s.kind == "kubernetes" {
			kinds[s.id] = s
		}
	}
	t.watches.set(workflow, kinds)
	before := map[id]*runner{}
	t.mu.Lock()
	for of, r := range t.running {
		if s, still := wanted[of.trigger]; of.workflow == workflow && (!still || !s.same(r.source)) {
			r.stop()
			before[of] = r
			delete(t.running, of)
		}
	}
	for of := range t.states {
		if _, still := wanted[of.trigger]; of.workflow == workflow && !still {
			delete(t.states, of)
		}
	}
	t.mu.Unlock()
	for _, s := range wanted {
		switch {
		case s.kind == "kubernetes":
		case s.missing != "":
			t.setState(s.id, false, s.missing)
		default:
			t.begin(s, before[s.id])
		}
	}
}

// begin runs a source after the previous one has stopped.
func (t *Triggers) begin(s source, before *runner) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running[s.id] != nil {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &runner{source: s, stop: stop, done: make(chan struct{})}
	t.running[s.id] = r
	consume := t.rabbit
	if s.kind == "kafka" {
		consume = t.kafka
	}
	go func() {
		defer close(r.done)
		if before != nil {
			<-before.done
		}
		t.consume(ctx, s, consume)
	}()
}

func (t *Triggers) stopAll() {
	t.mu.Lock()
	all := t.running
	t.running = map[id]*runner{}
	t.mu.Unlock()
	for _, r := range all {
		r.stop()
	}
	for _, r := range all {
		<-r.done
	}
}

// consume reconnects until ctx is done. The pause between connections grows until one is good.
func (t *Triggers) consume(ctx context.Context, s source, connect func(ctx context.Context, s source, good func()) error) {
	for pause := firstPause; ctx.Err() == nil; pause = min(2*pause, lastPause) {
		err := connect(ctx, s, func() {
			pause = firstPause
			t.setState(s.id, true, "")
		})
		if ctx.Err() != nil {
			return
		}
		t.setState(s.id, false, err.Error())
		t.options.Log.WarnContext(ctx, "a trigger lost its source; will reconnect", "workflow", s.workflow, "trigger", s.trigger, "error", err, "in", pause)
		if !sleep(ctx, pause/2+rand.N(pause)) {
			return
		}
	}
}

// event is one event of a source.
type event struct {
	body    any
	headers map[string]string
	key     string // events with the same key start one run; empty for none
}

// fire starts the run of an event. It retries until the run is durable, or returns the error of ctx. It returns false, and counts
// the event as rejected, if the event is invalid.
func (t *Triggers) fire(ctx context.Context, of id, c event) (bool, error) {
	key := c.key
	if key != "" {
		key = "trigger/" + of.trigger + "/" + key
	}
	unknown := 0
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		_, err := t.options.Launcher.Start(ctx, launch.Request{
			Workflow: of.workflow, Trigger: of.trigger, Key: key,
			Info: definition.TriggerInfo{Type: string(definition.Event), Name: of.trigger, Body: c.body, Headers: c.headers},
		})
		var input *definition.InputError
		switch {
		case err == nil, errors.Is(err, store.ErrBusy):
			return true, nil
		case errors.As(err, &input), errors.Is(err, backend.ErrInvalid):
			return false, nil
		case errors.Is(err, backend.ErrUnavailable), errors.Is(err, launch.ErrNoWorkflow), errors.Is(err, launch.ErrNoTrigger), errors.Is(err, launch.ErrInvalidDefinition),
			errors.Is(err, launch.ErrSuspended): // the last four are temporary, or stop this source
		default:
			if unknown++; unknown == unknownErrors {
				t.options.Log.ErrorContext(ctx, "an event was rejected", "workflow", of.workflow, "trigger", of.trigger, "error", err)
				t.options.Launcher.Reject(of.workflow, of.trigger)
				return false, nil
			}
		}
		if !sleep(ctx, pause) {
			return false, ctx.Err()
		}
	}
}

// payload decodes the body of a message: JSON, or text unless its content type is JSON.
func payload(body []byte, contentType string) (any, error) {
	value, err := step.Decode(body)
	if err == nil {
		return value, nil
	}
	if strings.Contains(contentType, "json") {
		return nil, errors.New("the content type is JSON, but the body is not")
	}
	if !utf8.Valid(body) || strings.ContainsRune(string(body), 0) {
		return nil, errors.New("the body is neither JSON nor text")
	}
	return string(body), nil
}

// size returns the size of an event as JSON.
func size(value any) int64 {
	data, err := json.Marshal(value)
	if err != nil {
		return definition.MaxPayload + 1
	}
	return int64(len(data))
}
