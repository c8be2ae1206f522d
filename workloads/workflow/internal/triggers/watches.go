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

// kinds maps definition.EventKinds to resources of the API server.
var kinds = map[string]schema.GroupVersionResource{
	"Deployment":  {Group: "apps", Version: "v1", Resource: "deployments"},
	"Event":       {Version: "v1", Resource: "events"},
	"Job":         {Group: "batch", Version: "v1", Resource: "jobs"},
	"Pipeline":    {Group: "dataflow.itechsmart.dev", Version: "v1alpha1", Resource: "pipelines"},
	"Pod":         {Version: "v1", Resource: "pods"},
	"StatefulSet": {Group: "apps", Version: "v1", Resource: "statefulsets"},
}

// watches are the Kubernetes triggers of all workflows: one watch per kind, for any number of triggers.
type watches struct {
	*Triggers
	client dynamic.Interface

	mu       sync.Mutex
	wanted   map[id]source
	leading  bool                     // this replica watches
	restarts map[string]chan struct{} // by kind: its triggers changed
}

func newWatches(t *Triggers) (*watches, error) {
	w := &watches{Triggers: t, wanted: map[id]source{}, restarts: map[string]chan struct{}{}}
	for kind := range kinds {
		w.restarts[kind] = make(chan struct{}, 1)
	}
	if t.options.Kubernetes == nil {
		return w, nil
	}
	settings := rest.CopyConfig(t.options.Kubernetes)
	if settings.QPS == 0 { // client-go would default to 5 requests a second; the API server has its own fairness
		settings.QPS, settings.Burst = -1, -1
	}
	var err error
	if w.client, err = dynamic.NewForConfig(settings); err != nil {
		return nil, fmt.Errorf("triggers: create the client: %w", err)
	}
	return w, nil
}

// set replaces the triggers of a workflow.
func (w *watches) set(workflow string, wanted map[id]source) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for of, s := range w.wanted {
		if _, still := wanted[of]; of.workflow == workflow && !still {
			delete(w.wanted, of)
			notify(w.restarts[s.name])
		}
	}
	for of, s := range wanted {
		before, known := w.wanted[of]
		w.wanted[of] = s
		if !known || !before.same(s) {
			notify(w.restarts[before.name])
			notify(w.restarts[s.name])
			w.setWaiting(of)
		}
	}
}

// setWaiting sets the state of a trigger whose watch has not started.
func (w *watches) setWaiting(of id) {
	switch {
	case w.client == nil:
		w.setState(of, false, "the service has no API server")
	case w.leading:
		w.setState(of, false, "the watch is starting")
	default:
		w.setState(of, false, "no replica is watching yet")
	}
}

// ofKind returns the triggers of a kind.
func (w *watches) ofKind(kind string) map[id]source {
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

// run watches for the wanted triggers until ctx is done.
func (w *watches) run(ctx context.Context) {
	if w.client == nil {
		<-ctx.Done()
		return
	}
	w.lead(true)
	defer w.lead(false)
	var group sync.WaitGroup
	defer group.Wait()
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		group.Go(func() { (&kindWatch{watches: w, kind: kind, restart: w.restarts[kind]}).run(ctx) })
	}
}

func (w *watches) lead(leading bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.leading = leading
	for of := range w.wanted {
		w.setWaiting(of)
	}
	for _, restart := range w.restarts {
		notify(restart)
	}
}
