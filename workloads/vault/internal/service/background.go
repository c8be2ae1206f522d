// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/itechsmart/operator/workloads/vault/internal/store"
)

// followKeys loads root keys that other replicas created, until ctx ends. A replica that was away for so long that it
// cannot reach the newest one unseals again if it has the passphrase.
func (s *Service) followKeys(ctx context.Context) {
	ticker := time.NewTicker(refreshEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if s.Store.Sealed() {
			continue
		}
		err := s.Store.Refresh(ctx)
		if errors.Is(err, store.ErrSealed) && s.Passphrase != nil {
			err = unseal(ctx, s.Passphrase, s.Store.Unseal)
		}
		if err != nil && ctx.Err() == nil {
			s.Log.Warn("the keys were not refreshed", "error", err)
		}
	}
}

// collector reports whether values can be read.
type collector struct {
	s                            *Service
	sealed, stale, total, queued *prometheus.Desc
}

// Collector reports whether values can be read.
func (s *Service) Collector() prometheus.Collector {
	describe := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("itechsmart_vault_"+name, help, nil, nil)
	}
	return &collector{
		s: s, sealed: describe("sealed", "1 while values cannot be read."),
		stale:  describe("data_keys_stale", "Data keys that an older root key wraps."),
		total:  describe("data_keys", "Data keys."),
		queued: describe("resources_waiting", "Resources that wait to be written to the API server."),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.sealed, c.stale, c.total, c.queued} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value)
	}
	sealed := 0.0
	if c.s.Store.Sealed() {
		sealed = 1
	}
	gauge(c.sealed, sealed)
	gauge(c.queued, float64(c.s.Resources.queue.length()))
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if status, err := c.s.Store.Status(ctx); err == nil {
		gauge(c.stale, float64(status.Stale))
		gauge(c.total, float64(status.Total))
	}
}
