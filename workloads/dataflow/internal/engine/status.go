// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

// counters that belong to no component.
type counters struct {
	filtered, errored atomic.Int64
}

// component is the state of one source or sink, as reported in the status.
type component struct {
	name, typ string
	scrub     func(error) string
	log       *slog.Logger

	records, bytes, errors, retries atomic.Int64

	mu           sync.Mutex
	current      config.ComponentState
	lastError    string
	lastActivity time.Time
}

func newComponent(name, typ string, scrub func(error) string, log *slog.Logger) *component {
	return &component{name: name, typ: typ, scrub: scrub, current: config.StateConnecting, log: log.With("component", name)}
}

func (c *component) set(state config.ComponentState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current = state
	if state == config.StateFinished {
		c.lastError = ""
	}
}

func (c *component) state() config.ComponentState {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current
}

// succeed clears the last error; activity says whether records moved.
func (c *component) succeed(activity bool) {
	c.mu.Lock()
	recovered := c.current != config.StateConnected
	c.current, c.lastError = config.StateConnected, ""
	if activity {
		c.lastActivity = time.Now()
	}
	c.mu.Unlock()
	if recovered {
		c.log.Info("connected")
	}
}

// fail reports an error until the next success. The same error is logged once.
func (c *component) fail(err error) {
	text := c.scrub(err)
	c.mu.Lock()
	repeated := c.lastError == text
	c.current, c.lastError = config.StateRetrying, text
	c.mu.Unlock()
	if !repeated {
		c.log.Warn("failed, will be retried", "error", text)
	}
}

func (c *component) status() config.Component {
	c.mu.Lock()
	defer c.mu.Unlock()
	return config.Component{Name: c.name, Type: c.typ, State: c.current, LastError: c.lastError, LastActivity: c.lastActivity}
}

func (e *Engine) setRunning(running bool) { e.mu.Lock(); e.running = running; e.mu.Unlock() }
func (e *Engine) setDraining()            { e.mu.Lock(); e.draining = true; e.mu.Unlock() }

func (e *Engine) setFinished() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.finished {
		e.finished = true
		close(e.done)
	}
}

// hold records why the pipeline is blocked; nil: it no longer is.
func (e *Engine) hold(err error) {
	text := ""
	if err != nil {
		text = scrub(err, nil)
	}
	e.mu.Lock()
	repeated := e.holdError == text
	e.holdError = text
	e.mu.Unlock()
	if !repeated && text != "" {
		e.log.Error("the pipeline is blocked", "error", text)
	}
}

// Status returns what the worker serves.
func (e *Engine) Status() config.Status {
	e.mu.Lock()
	status := config.Status{
		Hash: e.hash, Generation: e.cfg.Generation,
		Draining: e.draining, Finished: e.finished, LastError: e.holdError,
	}
	running := e.running
	e.mu.Unlock()

	status.Lag = -1
	works := true
	for _, source := range e.sources {
		c := source.comp.status()
		works = works && (c.State == config.StateConnected || c.State == config.StateFinished)
		status.Sources = append(status.Sources, c)
		status.Records.In += source.comp.records.Load()
		status.Records.BytesIn += source.comp.bytes.Load()
		if lag := source.lag.Load(); lag >= 0 {
			status.Lag = max(status.Lag, 0) + lag
		}
	}
	for _, sink := range e.allSinks() {
		c := sink.comp.status()
		works = works && c.State == config.StateConnected
		status.Sinks = append(status.Sinks, c)
		if sink.dead {
			status.Records.DeadLettered += sink.comp.records.Load()
			continue
		}
		status.Records.Out += sink.comp.records.Load()
		status.Records.BytesOut += sink.comp.bytes.Load()
	}
	status.Records.Filtered = e.counts.filtered.Load()
	status.Records.Errored = e.counts.errored.Load()
	status.Ready = works && running && !status.Draining
	status.InPerSecond, status.OutPerSecond = e.rates.perSecond()
	return status
}

// rates keeps one sample per second of the last ten seconds.
type rates struct {
	mu      sync.Mutex
	samples []sample
}

type sample struct {
	at      time.Time
	in, out int64
}

const window = 10

func (r *rates) add(s sample) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.samples = append(r.samples, s)
	if len(r.samples) > window+1 {
		r.samples = append(r.samples[:0], r.samples[1:]...)
	}
}

func (r *rates) perSecond() (in, out float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.samples) < 2 {
		return 0, 0
	}
	first, last := r.samples[0], r.samples[len(r.samples)-1]
	seconds := last.at.Sub(first.at).Seconds()
	if seconds <= 0 {
		return 0, 0
	}
	return float64(last.in-first.in) / seconds, float64(last.out-first.out) / seconds
}

// sample records the counters every second until ctx ends.
func (e *Engine) sample(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		now := sample{at: time.Now()}
		for _, source := range e.sources {
			now.in += source.comp.records.Load()
		}
		for _, sink := range e.sinks {
			now.out += sink.comp.records.Load()
		}
		e.rates.add(now)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}
