// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

const (
	firstRetry = 200 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// task is a pending write to a path's resource.
type task struct {
	path    string
	typ     string
	version int64
	create  bool // create the resource if it is missing
	touch   bool // no new version, but a change that the controller must see
	remove  bool
}

// join merges two tasks: a newer removal wins, anything else is added.
func (t task) join(newer task) task {
	if newer.remove {
		return newer
	}
	if newer.version > t.version {
		t.version, t.typ = newer.version, newer.typ
	}
	t.create, t.touch, t.remove = t.create || newer.create, t.touch && newer.touch, t.remove && !newer.create
	return t
}

// queue holds one task per path until it is done.
type queue struct {
	mu    *sync.Mutex
	tasks map[string]task
	wake  chan struct{}
}

func newQueue() queue {
	return queue{mu: &sync.Mutex{}, tasks: map[string]task{}, wake: make(chan struct{}, 1)}
}

func (q *queue) add(t task) {
	q.mu.Lock()
	if old, ok := q.tasks[t.path]; ok {
		t = old.join(t)
	}
	q.tasks[t.path] = t
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default: // it is awake
	}
}

func (q *queue) holds(path string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	_, ok := q.tasks[path]
	return ok
}

func (q *queue) length() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.tasks)
}

// take returns any task, which stays in the queue until done.
func (q *queue) take() (task, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, t := range q.tasks {
		return t, true
	}
	return task{}, false
}

// done removes a task, unless more was added meanwhile.
func (q *queue) done(t task) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.tasks[t.path] == t {
		delete(q.tasks, t.path)
	}
}

// run does tasks one after another. While the API server is down it backs off; a task that is permanently refused is
// logged and dropped.
func (q *queue) run(ctx context.Context, do func(context.Context, task) error, log *slog.Logger) {
	wait := firstRetry
	for {
		t, ok := q.take()
		if !ok {
			select {
			case <-ctx.Done():
				return
			case <-q.wake:
				continue
			}
		}
		limited, cancel := context.WithTimeout(ctx, 5*promptly)
		err := do(limited, t)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err == nil || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) {
			if err != nil {
				log.Error("the API server refuses a resource", "path", t.path, "error", err)
			}
			q.done(t)
			wait = firstRetry
			continue
		}
		log.Warn("a resource waits to be written", "path", t.path, "error", err, "waiting", q.length(), "retryAfter", wait)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait/2 + rand.N(wait)):
		}
		wait = min(2*wait, lastRetry)
	}
}
