// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"net/http"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"

	"github.com/itechsmart/operator/workloads/config"
)

// flushTimeout is how long sending the last spans may take.
const flushTimeout = 3 * time.Second

// traced wraps a handler in spans if the options, or OTEL_EXPORTER_OTLP_ENDPOINT or its variant for traces, name a
// collector; every other OTEL_* variable applies as well. Without one nothing is recorded. An unavailable collector loses
// spans, not requests.
func (s *Server) traced(ctx context.Context, handler http.Handler) (traced http.Handler, stop func()) {
	var to []otlptracehttp.Option
	var how []trace.TracerProviderOption
	switch {
	case s.options.Tracing != nil:
		to = append(to, otlptracehttp.WithEndpointURL(strings.TrimSuffix(s.options.Tracing.Endpoint, "/")+"/v1/traces"))
		how = append(how, trace.WithSampler(trace.ParentBased(trace.TraceIDRatioBased(float64(s.options.Tracing.SamplePercent)/100))))
	case os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") == "" && os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") == "":
		return handler, func() {}
	}
	exporter, err := otlptracehttp.New(ctx, to...)
	if err != nil {
		s.log.Error("traces are off: the exporter cannot start", "error", err)
		return handler, func() {}
	}
	// OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME come last and take precedence.
	attributes, err := resource.New(ctx, resource.WithAttributes(attribute.String("service.name", s.options.Name)), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		s.log.Warn("some attributes of traces are missing", "error", err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { s.log.Warn("traces", "error", err) }))
	provider := trace.NewTracerProvider(append(how, trace.WithBatcher(exporter), trace.WithResource(attributes))...)
	propagator := propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})
	// Clients of databases and brokers use the process's provider.
	otel.SetTracerProvider(provider)
	otel.SetTextMapPropagator(propagator)
	wrapped := otelhttp.NewHandler(handler, s.options.Name,
		otelhttp.WithTracerProvider(provider), otelhttp.WithPropagators(propagator),
		otelhttp.WithMeterProvider(noop.NewMeterProvider()), // the histograms are Prometheus's
		otelhttp.WithFilter(func(r *http.Request) bool {
			switch r.URL.Path {
			case config.HealthPath, config.LivePath, config.ReadyPath:
				return false
			}
			return true
		}))
	return wrapped, func() {
		flush, cancel := context.WithTimeout(context.Background(), flushTimeout)
		defer cancel()
		if err := provider.Shutdown(flush); err != nil {
			s.log.Warn("the last traces were lost", "error", err)
		}
	}
}
