// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

// metrics exports the engine's counters to Prometheus. Labels hold names from the configuration only, never
// record content.
type metrics struct {
	e     *Engine
	write *prometheus.HistogramVec

	recordsIn, recordsOut, bytesIn, bytesOut *prometheus.Desc
	errors, retries, connected, lag          *prometheus.Desc
	filtered, errored, deadLettered          *prometheus.Desc
	inFlight, inFlightLimit                  *prometheus.Desc
}

func newMetrics(e *Engine) *metrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("dataflow_"+name, help, labels, nil)
	}
	return &metrics{
		e: e,
		write: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "dataflow_sink_write_seconds",
			Help:    "How long one write of a batch took.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"sink"}),
		recordsIn:     desc("source_records_total", "Records read.", "source"),
		recordsOut:    desc("sink_records_total", "Records written and acknowledged by the destination.", "sink"),
		bytesIn:       desc("source_bytes_total", "Bytes of keys and values read.", "source"),
		bytesOut:      desc("sink_bytes_total", "Bytes of keys and values written.", "sink"),
		errors:        desc("sink_refused_records_total", "Records that the destination permanently refused.", "sink"),
		retries:       desc("sink_retries_total", "Writes that were retried.", "sink"),
		connected:     desc("component_connected", "1 when the source or sink is connected or finished.", "component"),
		lag:           desc("source_lag_records", "Records after the source's position.", "source"),
		filtered:      desc("filtered_records_total", "Records that a transform dropped on purpose."),
		errored:       desc("errored_records_total", "Records that a source, transform or sink could not process."),
		deadLettered:  desc("dead_lettered_records_total", "Records written to the dead letter."),
		inFlight:      desc("in_flight_bytes", "Memory of records that were read and not acknowledged."),
		inFlightLimit: desc("in_flight_limit_bytes", "Reading pauses at this many bytes in flight."),
	}
}

// Collector returns the engine's metrics.
func (e *Engine) Collector() prometheus.Collector { return e.metrics }

// Describe implements prometheus.Collector.
func (m *metrics) Describe(out chan<- *prometheus.Desc) {
	prometheus.DescribeByCollect(m, out)
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	m.write.Collect(out)
	counter := func(desc *prometheus.Desc, value int64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(value), labels...)
	}
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	for _, source := range m.e.sources {
		name := source.cfg.Name
		counter(m.recordsIn, source.comp.records.Load(), name)
		counter(m.bytesIn, source.comp.bytes.Load(), name)
		gauge(m.connected, connected(source.comp), "source/"+name)
		if lag := source.lag.Load(); lag >= 0 {
			gauge(m.lag, float64(lag), name)
		}
	}
	for _, sink := range m.e.allSinks() {
		name := sink.cfg.Name
		gauge(m.connected, connected(sink.comp), "sink/"+name)
		counter(m.retries, sink.comp.retries.Load(), name)
		if sink.dead {
			counter(m.deadLettered, sink.comp.records.Load())
			continue
		}
		counter(m.recordsOut, sink.comp.records.Load(), name)
		counter(m.bytesOut, sink.comp.bytes.Load(), name)
		counter(m.errors, sink.comp.errors.Load(), name)
	}
	counter(m.filtered, m.e.counts.filtered.Load())
	counter(m.errored, m.e.counts.errored.Load())
	gauge(m.inFlight, float64(m.e.budget.inFlight()))
	gauge(m.inFlightLimit, float64(m.e.budget.limit))
}

func connected(c *component) float64 {
	switch c.state() {
	case config.StateConnected, config.StateFinished:
		return 1
	default:
		return 0
	}
}
