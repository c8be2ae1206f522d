// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// unmatched is the route of requests that match no pattern: a client must not choose a label's value.
const unmatched = "unmatched"

type metrics struct {
	duration *prometheus.HistogramVec
	inFlight prometheus.Gauge
	panics   prometheus.Counter
	up       *prometheus.GaugeVec
}

func newMetrics(registry *prometheus.Registry) (*metrics, error) {
	m := &metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "http_server_request_duration_seconds",
			Help:    "How long requests took, by route pattern, method and status code.",
			Buckets: []float64{.001, .0025, .005, .01, .02, .05, .1, .25, .5, 1, 2.5, 10},
		}, []string{"route", "method", "code"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "http_server_requests_in_flight", Help: "Requests in flight.",
		}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "http_server_panics_total", Help: "Requests whose handler panicked.",
		}),
		up: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "dependency_up", Help: "1 when the last check of a dependency succeeded.",
		}, []string{"dependency"}),
	}
	for _, c := range []prometheus.Collector{m.duration, m.inFlight, m.panics, m.up} {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	// The caller's registry may already have these.
	for _, c := range []prometheus.Collector{collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})} {
		if err := registry.Register(c); err != nil {
			if _, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); !ok {
				return nil, err
			}
		}
	}
	return m, nil
}

func (m *metrics) observe(route, method string, code int, took time.Duration) {
	m.duration.WithLabelValues(route, methodLabel(method), strconv.Itoa(code)).Observe(took.Seconds())
}

func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "OTHER"
}
