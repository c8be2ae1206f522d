// SPDX-License-Identifier: Apache-2.0

package db

import (
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
)

type collector struct {
	pool                                       *pgxpool.Pool
	connections, waits, waited, cancelled, max *prometheus.Desc
}

// NewCollector exports a pool's statistics, labelled pool=name.
func NewCollector(pool *pgxpool.Pool, name string) prometheus.Collector {
	describe := func(metric, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("itechsmart_db_pool_"+metric, help, labels, prometheus.Labels{"pool": name})
	}
	return &collector{
		pool:        pool,
		connections: describe("connections", "Connections by state.", "state"),
		max:         describe("connections_max", "The most connections that the pool opens."),
		waits:       describe("waits_total", "Acquisitions that had to wait for a connection."),
		waited:      describe("wait_seconds_total", "Time spent in acquiring connections."),
		cancelled:   describe("cancelled_total", "Acquisitions that were cancelled."),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, out) }

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	s := c.pool.Stat()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	counter := func(d *prometheus.Desc, value float64) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, value)
	}
	gauge(c.connections, float64(s.AcquiredConns()), "used")
	gauge(c.connections, float64(s.IdleConns()), "idle")
	gauge(c.connections, float64(s.ConstructingConns()), "opening")
	gauge(c.max, float64(s.MaxConns()))
	counter(c.waits, float64(s.EmptyAcquireCount()))
	counter(c.waited, s.AcquireDuration().Seconds())
	counter(c.cancelled, float64(s.CanceledAcquireCount()))
}
