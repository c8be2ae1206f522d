// SPDX-License-Identifier: Apache-2.0

package service

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/itechsmart/operator/workloads/workflow/internal/store"
)

// collector collects the service's own metrics.
type collector struct {
	s                                               *Service
	started, ended, connected, workflows, followers *prometheus.Desc
}

// Collector returns the service's own metrics. Each process counts the runs that it records: sum over all services and workers.
func (s *Service) Collector() prometheus.Collector {
	describe := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("itechsmart_workflow_"+name, help, labels, nil)
	}
	return &collector{
		s:         s,
		started:   describe("runs_started_total", "Runs that this process has started."),
		ended:     describe("runs_ended_total", "Runs that this process has ended, by phase.", "phase"),
		connected: describe("queue_connected", "1 while tasks can be published to the queue."),
		workflows: describe("workflows", "Workflows of the Platform, by whether their definition is valid.", "proven"),
		followers: describe("live_connections", "Open WebSockets."),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.started, c.ended, c.connected, c.workflows, c.followers} {
		out <- d
	}
	if p := c.s.Engine.Payloads(); p != nil {
		p.Describe(out)
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value int, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(value), labels...)
	}
	for phase, n := range c.s.Engine.Store().Totals() {
		if phase == store.Queued {
			out <- prometheus.MustNewConstMetric(c.started, prometheus.CounterValue, float64(n))
			continue
		}
		out <- prometheus.MustNewConstMetric(c.ended, prometheus.CounterValue, float64(n), string(phase))
	}
	connected := 0
	if c.s.Queue.Connected() {
		connected = 1
	}
	gauge(c.connected, connected)
	proven := map[bool]int{}
	for _, e := range c.s.Catalog.All() {
		proven[e.Program != nil]++
	}
	gauge(c.workflows, proven[true], "true")
	gauge(c.workflows, proven[false], "false")
	gauge(c.followers, c.s.Streams.Open())
	if p := c.s.Engine.Payloads(); p != nil {
		p.Collect(out)
	}
}
