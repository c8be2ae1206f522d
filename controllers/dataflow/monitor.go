// SPDX-License-Identifier: Apache-2.0

package dataflow

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	dataflowv1alpha1 "github.com/itechsmart/operator/api/dataflow/v1alpha1"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

const (
	// pollInterval is the interval at which workers are polled. A changed state is reported at once.
	pollInterval = 5 * time.Second
	// reportInterval is the interval at which changed numbers are written to the status.
	reportInterval = 10 * time.Second
	pollTimeout    = 2 * time.Second
	pollParallel   = 32
	maxStatusBytes = 1 << 20
)

// Ask reads one worker's status.
type Ask func(ctx context.Context, podIP string) (*config.Status, error)

// Monitor polls the status of workers, and enqueues a Pipeline when it has changed. It keeps the last answers, so that a
// pass never waits for a worker.
type Monitor struct {
	Reader client.Reader
	Ask    Ask
	Events chan event.TypedGenericEvent[*dataflowv1alpha1.Pipeline]
	now    func() time.Time

	mu      sync.Mutex
	samples map[client.ObjectKey]*sample
}

// sample has the last answers of the workers of one Pipeline.
type sample struct {
	statuses []config.Status
	// silent is the number of running workers that did not answer.
	silent   int
	reported time.Time
}

// NewMonitor returns a Monitor that polls with ask.
func NewMonitor(reader client.Reader, ask Ask) *Monitor {
	return &Monitor{
		Reader: reader, Ask: ask, Events: make(chan event.TypedGenericEvent[*dataflowv1alpha1.Pipeline], 1024), now: time.Now,
		samples: map[client.ObjectKey]*sample{},
	}
}

// Start polls until ctx ends. It implements manager.Runnable.
func (m *Monitor) Start(ctx context.Context) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if err := m.round(ctx); err != nil && ctx.Err() == nil {
				ctrl.Log.WithName("pipeline-monitor").Error(err, "Workers were not asked; status shows older numbers until the next round")
			}
		}
	}
}

// round asks every running worker once.
func (m *Monitor) round(ctx context.Context) error {
	var pods corev1.PodList
	if err := m.Reader.List(ctx, &pods, client.MatchingLabels{common.LabelComponent: componentWorker, common.LabelOwnerKind: ownerKind}, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list workers: %w", err)
	}
	byPipeline := map[client.ObjectKey][]string{}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if pod.Status.PodIP == "" || pod.Status.Phase != corev1.PodRunning || !pod.DeletionTimestamp.IsZero() {
			continue
		}
		key := client.ObjectKey{Namespace: pod.Namespace, Name: pod.Labels[common.LabelOwnerName]}
		byPipeline[key] = append(byPipeline[key], pod.Status.PodIP)
	}
	slots := make(chan struct{}, pollParallel)
	var wait sync.WaitGroup
	for key, ips := range byPipeline {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			m.update(ctx, key, ips)
		})
	}
	wait.Wait()
	m.forgetOthers(byPipeline)
	return nil
}

func (m *Monitor) update(ctx context.Context, key client.ObjectKey, ips []string) {
	next := &sample{}
	for _, ip := range ips {
		status, err := m.Ask(ctx, ip)
		if err != nil {
			next.silent++
			continue
		}
		next.statuses = append(next.statuses, *status)
	}
	m.mu.Lock()
	last := m.samples[key]
	wake := last == nil || states(last) != states(next) ||
		(m.now().Sub(last.reported) >= reportInterval && !reflect.DeepEqual(last.statuses, next.statuses))
	switch {
	case wake:
		next.reported = m.now()
	case last != nil:
		next.reported = last.reported
		// Numbers that were not reported yet must count as a change next time.
		next.statuses = last.statuses
	}
	m.samples[key] = next
	m.mu.Unlock()
	if !wake {
		return
	}
	pipeline := &dataflowv1alpha1.Pipeline{}
	pipeline.Namespace, pipeline.Name = key.Namespace, key.Name
	select {
	case m.Events <- event.TypedGenericEvent[*dataflowv1alpha1.Pipeline]{Object: pipeline}:
	case <-ctx.Done():
	}
}

// states returns the part of a sample that conditions depend on. A change of it is reported at once.
func states(s *sample) string {
	out := strconv.Itoa(s.silent)
	for i := range s.statuses {
		status := &s.statuses[i]
		out += fmt.Sprintf(";%s %d %t %t %t", status.Hash, status.Generation, status.Ready, status.Finished, status.Records.DeadLettered > 0) + status.LastError
		for _, list := range [][]config.Component{status.Sources, status.Sinks} {
			for _, c := range list {
				out += fmt.Sprintf(",%s %s %s", c.Name, c.State, c.LastError)
			}
		}
	}
	return out
}

func (m *Monitor) forgetOthers(alive map[client.ObjectKey][]string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key := range m.samples {
		if _, ok := alive[key]; !ok {
			delete(m.samples, key)
		}
	}
}

// latest returns the last sample of a Pipeline, or nil when no worker runs.
func (m *Monitor) latest(key client.ObjectKey) *sample {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.samples[key]
}

// AskHTTP returns an Ask that reads the status from a worker's HTTP port.
func AskHTTP() Ask {
	httpClient := &http.Client{Timeout: pollTimeout}
	return func(ctx context.Context, podIP string) (*config.Status, error) {
		url := "http://" + net.JoinHostPort(podIP, strconv.Itoa(config.Port)) + config.StatusPath
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return nil, fmt.Errorf("ask worker: %w", err)
		}
		resp, err := httpClient.Do(req)
		if err != nil {
			return nil, fmt.Errorf("ask worker: %w", err)
		}
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("ask worker: %s", resp.Status)
		}
		var status config.Status
		if err := json.NewDecoder(io.LimitReader(resp.Body, maxStatusBytes)).Decode(&status); err != nil {
			return nil, fmt.Errorf("ask worker: %w", err)
		}
		return &status, nil
	}
}
