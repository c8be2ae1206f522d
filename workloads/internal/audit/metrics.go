// SPDX-License-Identifier: Apache-2.0

package audit

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	recorded, refused, handedOver, failures prometheus.Counter
	waiting                                 prometheus.GaugeFunc
}

func newMetrics(s *spool) metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "itechsmart", Subsystem: "audit", Name: name, Help: help})
	}
	return metrics{
		recorded:   counter("events_total", "Events that were recorded."),
		refused:    counter("refused_total", "Events that found the spill full: their requests were refused."),
		handedOver: counter("stored_total", "Events that this process stored in the database."),
		failures:   counter("database_failures_total", "Batches that the database did not accept."),
		waiting: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "itechsmart", Subsystem: "audit", Name: "spill_bytes", Help: "Bytes of events that wait for the database.",
		}, func() float64 { return float64(s.waiting()) }),
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.recorded, m.refused, m.handedOver, m.failures, m.waiting}
}

// Describe implements prometheus.Collector: register the Log to have its metrics served.
func (l *Log) Describe(out chan<- *prometheus.Desc) {
	for _, c := range l.metrics.all() {
		c.Describe(out)
	}
}

// Collect implements prometheus.Collector.
func (l *Log) Collect(out chan<- prometheus.Metric) {
	for _, c := range l.metrics.all() {
		c.Collect(out)
	}
}
