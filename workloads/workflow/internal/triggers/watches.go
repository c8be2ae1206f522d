// SPDX-License-Identifier: Apache-2.0

package triggers

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// kinds are the resources of definition.EventKinds in the API server.
var kinds = map[string]schema.GroupVersionResource{
	"Deployment":  {Group: "apps", Version: "v1", Resource: "deployments"},
	"Event":       {Version: "v1", Resource: "events"},
	"Job":         {Group: "batch", Version: "v1", Resource: "jobs"},
	"Pipeline":    {Group: "dataflow.itechsmart.dev", Version: "v1alpha1", Resource: "pipelines"},
	"Pod":         {Version: "v1", Resource: "pods"},
	"StatefulSet": {Group: "apps", Version: "v1", Resource: "statefulsets"},
}

// watches are the triggers of Kubernetes, of all workflows: one watch for each kind, whatever number of triggers it has.
type watches struct {
	*Triggers
	client dynamic.Interface

	mu     sync.Mutex
	wanted map[id]source
	alone  bool                     // this replica watches
	kicks  map[string]chan struct{} // by kind: its triggers changed
}

func newWatches(t *Triggers) (*watches, error) {
	w := &watches{Triggers: t, wanted: map[id]source{}, kicks: map[string]chan struct{}{}}
	for kind := range kinds {
		w.kicks[kind] = make(chan struct{}, 1)
	}
	if t.options.Kubernetes == nil {
		return w, nil
	}
	settings := rest.CopyConfig(t.options.Kubernetes)
	if settings.QPS == 0 { // client-go would fall back to 5 a second; the API server has its own fairness
		settings.QPS, settings.Burst = -1, -1
	}
	var err error
	if w.client, err = dynamic.NewForConfig(settings); err != nil {
		return nil, fmt.Errorf("triggers: prepare the client: %w", err)
	}
	return w, nil
}

// set gives a workflow these triggers and no others.
func (w *watches) set(workflow string, wanted map[id]source) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for of, s := range w.wanted {
		if _, still := wanted[of]; of.workflow == workflow && !still {
			delete(w.wanted, of)
			ring(w.kicks[s.name])
		}
	}
	for of, s := range wanted {
		before, known := w.wanted[of]
		w.wanted[of] = s
		if !known || !before.same(s) {
			ring(w.kicks[before.name])
			ring(w.kicks[s.name])
			w.tellWaiting(of)
		}
	}
}

// tellWaiting is the state of a trigger whose watch has not begun.
func (w *watches) tellWaiting(of id) {
	switch {
	case w.client == nil:
		w.setState(of, false, "the service reaches no API server")
	case w.alone:
		w.setState(of, false, "the watch is about to begin")
	default:
		w.setState(of, false, "no replica watches yet")
	}
}

// of returns the triggers of a kind.
func (w *watches) of(kind string) map[id]source {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[id]source{}
	for of, s := range w.wanted {
		if s.name == kind {
			out[of] = s
		}
	}
	return out
}

// run watches what is wanted, until ctx ends.
func (w *watches) run(ctx context.Context) {
	if w.client == nil {
		<-ctx.Done()
		return
	}
	w.turn(true)
	defer w.turn(false)
	var group sync.WaitGroup
	defer group.Wait()
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		group.Go(func() { (&kindWatch{watches: w, kind: kind, kick: w.kicks[kind]}).run(ctx) })
	}
}

func (w *watches) turn(alone bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.alone = alone
	for of := range w.wanted {
		w.tellWaiting(of)
	}
	for _, kick := range w.kicks {
		ring(kick)
	}
}
