// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"regexp"
	"sync"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/workload"
	"github.com/itechsmart/operator/internal/backend"
)

const (
	probeTimeout = 3 * time.Second
	// A failed login is tried again at once, for a Service may lag behind its pod; then after firstRetry, twice that, …, lastRetry.
	atOnce, firstRetry, lastRetry = time.Second, 5 * time.Second, time.Minute
	// probesAtOnce bounds the logins under way in the whole manager.
	probesAtOnce = 16
)

// Probe logs in to a backend and asks for its version.
type Probe func(ctx context.Context, kind string, b backend.Binding) (version string, err error)

// realProbe uses each backend's own client.
func realProbe(ctx context.Context, kind string, b backend.Binding) (string, error) {
	return backendTypeByName(kind).probe(ctx, b)
}

// pinger is the interface that the clients of all backends share.
type pinger interface {
	Ping(ctx context.Context) (string, error)
	io.Closer
}

func ping(ctx context.Context, admin pinger) (string, error) {
	version, err := admin.Ping(ctx)
	_ = admin.Close() // nothing was written
	return version, err
}

type probeKey struct {
	platform client.ObjectKey
	backend  string
}

// probeResult is the result of a login.
type probeResult struct {
	// known is false until the first login under the current binding has ended.
	known   bool
	version string
	// reason and message say why it failed; reason is empty when it did not.
	reason, message string
}

type probeState struct {
	result      probeResult
	fingerprint string
	busy        bool
	failures    int
	next        time.Time
}

// prober logs in to backends beside the passes, which take what it last found. When a login ends it wakes the Platform.
type prober struct {
	probe    Probe
	interval time.Duration
	wake     chan event.TypedGenericEvent[*v1alpha1.Platform]
	slots    chan struct{}

	mu     sync.Mutex
	states map[probeKey]*probeState
	stop   <-chan struct{}
}

func newProber(probe Probe, interval time.Duration) *prober {
	return &prober{
		probe: probe, interval: interval, states: map[probeKey]*probeState{},
		wake:  make(chan event.TypedGenericEvent[*v1alpha1.Platform], 1024),
		slots: make(chan struct{}, probesAtOnce),
		stop:  make(chan struct{}),
	}
}

// Start implements manager.Runnable: logins end with the manager.
func (p *prober) Start(ctx context.Context) error {
	p.mu.Lock()
	p.stop = ctx.Done()
	p.mu.Unlock()
	<-ctx.Done()
	return nil
}

// check returns what is known of a backend under this binding, and when the next login is due (zero: one is under way
// and will wake the Platform). It begins a login when one is due.
func (p *prober) check(key probeKey, b backend.Binding) (probeResult, time.Duration) {
	fingerprint := workload.Checksum(b.Data())
	p.mu.Lock()
	defer p.mu.Unlock()
	state := p.states[key]
	if state == nil || state.fingerprint != fingerprint {
		state = &probeState{fingerprint: fingerprint}
		p.states[key] = state
	}
	now := time.Now()
	if !state.busy && !now.Before(state.next) {
		state.busy = true
		go p.login(key, state, b)
	}
	if state.busy {
		return state.result, 0
	}
	return state.result, state.next.Sub(now)
}

// forget drops what is known of a backend: its next check logs in again.
func (p *prober) forget(key probeKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.states, key)
}

// forgetAll drops what is known of a Platform.
func (p *prober) forgetAll(platform client.ObjectKey) {
	for _, kind := range backendTypes {
		p.forget(probeKey{platform: platform, backend: kind.name})
	}
}

func (p *prober) login(key probeKey, state *probeState, b backend.Binding) {
	p.mu.Lock()
	stop := p.stop
	p.mu.Unlock()
	select {
	case p.slots <- struct{}{}:
	case <-stop:
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	version, err := p.probe(ctx, key.backend, b)
	cancel()
	<-p.slots
	result := probeResult{known: true, version: version}
	if err != nil {
		result.reason, result.message = explain(err, b)
	}
	p.mu.Lock()
	state.busy = false
	state.result = result
	if err == nil {
		state.failures = 0
		state.next = time.Now().Add(spread(p.interval))
	} else {
		state.next = time.Now().Add(retryAfter(state.failures))
		state.failures++
	}
	p.mu.Unlock()
	platform := &v1alpha1.Platform{}
	platform.Namespace, platform.Name = key.platform.Namespace, key.platform.Name
	select {
	case p.wake <- event.TypedGenericEvent[*v1alpha1.Platform]{Object: platform}:
	case <-stop:
	}
}

// retryAfter returns the delay after a failed login, after a number of failures before it.
func retryAfter(failures int) time.Duration {
	if failures == 0 {
		return atOnce
	}
	return min(firstRetry<<min(failures-1, 8), lastRetry)
}

// spread keeps logins that began together from ending up together.
func spread(d time.Duration) time.Duration {
	return d + time.Duration(rand.Int64N(int64(d)/10+1)) //nolint:gosec // G404: spreading timers needs no secrecy
}

// localPort is the part of a network error that differs from try to try.
var localPort = regexp.MustCompile(`[0-9a-fA-F.:\[\]]+:\d+->`)

// explain makes an error that reads the same each time, without the binding's credentials.
func explain(err error, b backend.Binding) (reason, message string) {
	message = localPort.ReplaceAllString(b.Redact(err.Error()), "")
	switch {
	case errors.Is(err, backend.ErrAuth):
		return common.ReasonAccessDenied, message
	case errors.Is(err, backend.ErrInvalid):
		return common.ReasonInvalidSpec, message
	case errors.Is(err, backend.ErrNotFound):
		return common.ReasonReferenceNotFound, message
	default:
		return common.ReasonBackendUnavailable, message
	}
}
