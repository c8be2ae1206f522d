// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/itechsmart/operator/workloads/workflow/internal/engine"
)

var http404 = http.NotFoundHandler()

// metrics describe the steps that this worker executes.
type metrics struct {
	running *prometheus.GaugeVec
	seconds *prometheus.HistogramVec
}

func newMetrics() *metrics {
	return &metrics{
		running: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "itechsmart_workflow_steps_running", Help: "Steps that this worker executes now, by type.",
		}, []string{"type"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "itechsmart_workflow_step_attempt_seconds", Help: "Duration of attempts, by type and outcome: succeeded, waiting, failed, refused.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 9),
		}, []string{"type", "outcome"}),
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(out chan<- *prometheus.Desc) {
	m.running.Describe(out)
	m.seconds.Describe(out)
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	m.running.Collect(out)
	m.seconds.Collect(out)
}

// around returns an executor with metrics. Definitions are validated, so the values of the label type are bounded.
func (m *metrics) around(e engine.Executor) engine.Executor { return measured{m, e} }

type measured struct {
	metrics *metrics
	steps   engine.Executor
}

func (m measured) Execute(ctx context.Context, call engine.Call) (engine.Result, error) {
	running := m.metrics.running.WithLabelValues(call.Type)
	running.Inc()
	defer running.Dec()
	started := time.Now()
	result, err := m.steps.Execute(ctx, call)
	outcome := "succeeded"
	var permanent *engine.Permanent
	switch {
	case errors.As(err, &permanent):
		outcome = "refused"
	case err != nil:
		outcome = "failed"
	case result.Wait != nil:
		outcome = "waiting"
	}
	m.metrics.seconds.WithLabelValues(call.Type, outcome).Observe(time.Since(started).Seconds())
	return result, err
}
