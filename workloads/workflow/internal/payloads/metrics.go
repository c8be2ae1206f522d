// SPDX-License-Identifier: Apache-2.0

package payloads

import "github.com/prometheus/client_golang/prometheus"

// counts are the metrics of one process.
type counts struct {
	written, read, swept prometheus.Counter
	failed               *prometheus.CounterVec
}

func newCounts() *counts {
	options := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Name: "itechsmart_workflow_payload" + name, Help: help}
	}
	c := &counts{
		written: prometheus.NewCounter(options("_written_bytes_total", "Bytes of values written to object storage.")),
		read:    prometheus.NewCounter(options("_read_bytes_total", "Bytes of values read from object storage.")),
		swept:   prometheus.NewCounter(options("s_swept_total", "Deleted folders in object storage that nothing referred to.")),
		failed: prometheus.NewCounterVec(options("_failures_total", "Failed requests to object storage, by operation: write, read, list, delete. "+
			"Includes reads of deleted or modified values."), []string{"operation"}),
	}
	for _, op := range []string{opWrite, opRead, opList, opDelete} {
		c.failed.WithLabelValues(op) // starts at zero, so that the first failure is an increase
	}
	return c
}

func (c *counts) each(do func(prometheus.Collector)) {
	for _, m := range []prometheus.Collector{c.written, c.read, c.swept, c.failed} {
		do(m)
	}
}

// Describe implements prometheus.Collector.
func (s *Store) Describe(out chan<- *prometheus.Desc) {
	s.counts.each(func(m prometheus.Collector) { m.Describe(out) })
}

// Collect implements prometheus.Collector.
func (s *Store) Collect(out chan<- prometheus.Metric) {
	s.counts.each(func(m prometheus.Collector) { m.Collect(out) })
}
