// SPDX-License-Identifier: Apache-2.0

// Package load sends HTTP requests to a server and measures the responses. It runs as a program of its own for benchmarks
// (Main), so that the client's cost is not the server's, and it can be pinned to another processor.
package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Spec is the load to send.
type Spec struct {
	// Address is the server's, host:port, over plain HTTP/1.1.
	Address string
	// Classes are mixed by their weights.
	Classes []Class
	// Connections are opened before the first request is sent, and kept.
	Connections int
	// Rate of requests per second for Seconds. A request's time starts when it was due, whether or not a connection was
	// free: a slow response counts for all that wait behind it. Zero: each connection sends when it has its response.
	Rate, Seconds float64
	// Each, if not zero, is how many requests a connection sends; Rate and Seconds are not used.
	Each int
}

// Class is one kind of request.
type Class struct {
	Name   string
	Weight int
	// Requests are sent in a scattered order, each equally often (unless 7919 divides their number).
	Requests []Request
}

// Request is one request and the expected status.
type Request struct {
	Method, Path string
	Header       map[string]string
	Body         []byte
	Status       int
}

// Result is the outcome of a Spec.
type Result struct {
	Requests, Errors int
	// Failures are a few of the errors.
	Failures []string
	// Seconds from the first request to the last response; Dial is the time to open the connections.
	Seconds, Dial float64
	// All requests, and those of each class by its name. Errors have a latency too.
	All     Latency
	Classes map[string]Latency
}

// PerSecond returns the rate of successful responses.
func (r Result) PerSecond() float64 { return float64(r.Requests-r.Errors) / r.Seconds }

// Latency in milliseconds.
type Latency struct{ P50, P95, P99, Max float64 }

const (
	// stride scatters the requests of a class: it is prime.
	stride = 7919
	// failuresShown limits the reported failures, dialers the concurrent dials.
	failuresShown, dialers = 5, 128
	// seed of the mix: each run sends the same.
	seed = 1
)

// Main reads a Spec in JSON and writes the Result.
func Main(in io.Reader, out io.Writer) error {
	var spec Spec
	if err := json.NewDecoder(in).Decode(&spec); err != nil {
		return fmt.Errorf("read the load: %w", err)
	}
	result, err := Run(context.Background(), spec)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(result)
}

// Run opens the connections, sends, and measures. A wrong response is counted; it is not an error of Run.
func Run(ctx context.Context, spec Spec) (Result, error) {
	r := &run{spec: spec}
	if err := r.prepare(); err != nil {
		return Result{}, err
	}
	begun := time.Now()
	if err := r.dial(ctx); err != nil {
		return Result{}, err
	}
	defer func() {
		for _, w := range r.workers {
			w.close()
		}
	}()
	dialed := time.Since(begun)
	result := r.send(ctx)
	result.Dial = dialed.Seconds()
	return result, ctx.Err()
}

type run struct {
	spec    Spec
	classes []*class
	total   int // of the weights
	workers []*worker
}

// class holds requests as they are sent.
type class struct {
	Class
	wire [][]byte
	sent atomic.Int64
}

func (r *run) prepare() error {
	if r.spec.Connections < 1 || len(r.spec.Classes) == 0 || (r.spec.Each == 0 && r.spec.Seconds <= 0) {
		return errors.New("connections, classes, and seconds or each are required")
	}
	for _, c := range r.spec.Classes {
		if c.Weight < 1 || len(c.Requests) == 0 {
			return fmt.Errorf("class %s: weight and requests are required", c.Name)
		}
		ready := &class{Class: c}
		for _, request := range c.Requests {
			wire, err := request.wire(r.spec.Address)
			if err != nil {
				return fmt.Errorf("class %s: %w", c.Name, err)
			}
			ready.wire = append(ready.wire, wire)
		}
		r.classes = append(r.classes, ready)
		r.total += c.Weight
	}
	return nil
}

// dial opens all connections.
func (r *run) dial(ctx context.Context) error {
	for i := range r.spec.Connections {
		r.workers = append(r.workers, &worker{run: r, random: rand.New(rand.NewPCG(seed, uint64(i))), took: make([][]float64, len(r.classes))})
	}
	var group sync.WaitGroup
	queue := make(chan *worker, len(r.workers))
	failed := make([]error, dialers)
	for i := range dialers {
		group.Go(func() {
			for w := range queue {
				if err := w.dial(ctx); err != nil && failed[i] == nil {
					failed[i] = err
				}
			}
		})
	}
	for _, w := range r.workers {
		queue <- w
	}
	close(queue)
	group.Wait()
	return errors.Join(failed...)
}

// send runs every connection, and merges their measurements.
func (r *run) send(ctx context.Context) Result {
	start := time.Now()
	length := time.Duration(r.spec.Seconds * float64(time.Second))
	var due chan time.Time
	if r.spec.Each == 0 && r.spec.Rate > 0 {
		due = make(chan time.Time, int(r.spec.Rate*r.spec.Seconds)+1)
		go schedule(ctx, due, start, r.spec.Rate, length)
	}
	var group sync.WaitGroup
	for _, w := range r.workers {
		group.Go(func() {
			switch {
			case r.spec.Each > 0:
				for range r.spec.Each {
					w.one(ctx, time.Now())
				}
			case due != nil:
				for at := range due {
					w.one(ctx, at)
				}
			default:
				for now := start; now.Sub(start) < length && ctx.Err() == nil; now = time.Now() {
					w.one(ctx, now)
				}
			}
		})
	}
	group.Wait()
	return r.result(time.Since(start))
}

// schedule sends the times at which requests are due. It never waits for the senders.
func schedule(ctx context.Context, due chan<- time.Time, start time.Time, rate float64, length time.Duration) {
	defer close(due)
	count := int(rate * length.Seconds())
	for i := range count {
		at := start.Add(time.Duration(float64(i) / rate * float64(time.Second)))
		if wait := time.Until(at); wait > 0 {
			time.Sleep(wait) // the pace
		}
		if ctx.Err() != nil {
			return
		}
		due <- at
	}
}

func (r *run) result(took time.Duration) Result {
	out := Result{Seconds: took.Seconds(), Classes: map[string]Latency{}}
	var all []float64
	for i, c := range r.classes {
		var of []float64
		for _, w := range r.workers {
			of = append(of, w.took[i]...)
		}
		out.Classes[c.Name] = latency(of)
		all = append(all, of...)
	}
	for _, w := range r.workers {
		out.Errors += w.errors
		for _, text := range w.failures {
			if len(out.Failures) < failuresShown && !slices.Contains(out.Failures, text) {
				out.Failures = append(out.Failures, text)
			}
		}
	}
	out.Requests = len(all)
	out.All = latency(all)
	return out
}

func latency(ms []float64) Latency {
	if len(ms) == 0 {
		return Latency{}
	}
	slices.Sort(ms)
	at := func(q float64) float64 { return ms[min(int(q*float64(len(ms))), len(ms)-1)] }
	return Latency{P50: at(0.5), P95: at(0.95), P99: at(0.99), Max: ms[len(ms)-1]}
}
