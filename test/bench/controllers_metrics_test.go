// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"k8s.io/client-go/kubernetes"

	"github.com/itechsmart/operator/test/kube"
)

func label(metric *dto.Metric, name string) string {
	for _, pair := range metric.GetLabel() {
		if pair.GetName() == name {
			return pair.GetValue()
		}
	}
	return ""
}

// sum adds up the counters and gauges of a family with one label.
func sum(family *dto.MetricFamily, name, value string) float64 {
	total := 0.0
	for _, metric := range family.GetMetric() {
		if label(metric, name) == value {
			total += metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
		}
	}
	return total
}

// passes returns the number, mean and quantile in milliseconds of a controller's passes.
func passes(b *testing.B, metrics map[string]*dto.MetricFamily, controller string, q float64) (count, mean, quantile float64) {
	b.Helper()
	for _, metric := range metrics["controller_runtime_reconcile_time_seconds"].GetMetric() {
		if label(metric, "controller") == controller {
			h := metric.GetHistogram()
			count = float64(h.GetSampleCount())
			return count, h.GetSampleSum() / count * 1000, native(h, q) * 1000
		}
	}
	b.Fatalf("no passes of controller %s", controller)
	return 0, 0, 0
}

// native returns the upper bound of a native histogram's bucket that contains the quantile.
func native(h *dto.Histogram, q float64) float64 {
	rank := q * float64(h.GetSampleCount())
	seen := float64(h.GetZeroCount())
	if seen >= rank {
		return h.GetZeroThreshold()
	}
	base := math.Pow(2, math.Pow(2, -float64(h.GetSchema())))
	index, delta, count := 0, 0, int64(0)
	for _, span := range h.GetPositiveSpan() {
		index += int(span.GetOffset())
		for range span.GetLength() {
			count += h.GetPositiveDelta()[delta]
			delta++
			seen += float64(count)
			if seen >= rank {
				return math.Pow(base, float64(index))
			}
			index++
		}
	}
	return math.NaN()
}

// requests counts requests to the API server, by "VERB resource[/subresource]".
type requests map[string]float64

func apiRequests(b *testing.B, server *kube.Server) requests {
	b.Helper()
	clients, err := kubernetes.NewForConfig(server.Config)
	if err != nil {
		b.Fatal(err)
	}
	text, err := clients.RESTClient().Get().AbsPath("/metrics").DoRaw(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	metrics, err := parser.TextToMetricFamilies(strings.NewReader(string(text)))
	if err != nil {
		b.Fatal(err)
	}
	out := requests{}
	for _, metric := range metrics["apiserver_request_total"].GetMetric() {
		resource := label(metric, "resource")
		if sub := label(metric, "subresource"); sub != "" {
			resource += "/" + sub
		}
		if resource != "" && label(metric, "group") != "apiextensions.k8s.io" {
			out[label(metric, "verb")+" "+resource+" "+label(metric, "code")] += metric.GetCounter().GetValue()
		}
	}
	return out
}

func (r requests) since(before requests) requests {
	out := requests{}
	for key, value := range r {
		if value > before[key] {
			out[key] = value - before[key]
		}
	}
	return out
}

// written returns the requests that changed something and that only a manager sends; without events.
func (r requests) written() (total, status float64) {
	for key, value := range r {
		verb, rest, _ := strings.Cut(key, " ")
		resource, code, _ := strings.Cut(rest, " ")
		if resource == "events" || code >= "300" || !slices.Contains([]string{"APPLY", "PATCH", "DELETE", "POST"}, verb) {
			continue
		}
		if verb == "POST" && (resource == "pipelines" || resource == "platforms") {
			continue // the benchmark's own
		}
		total += value
		if strings.HasSuffix(resource, "/status") {
			status += value
		}
	}
	return total, status
}

// read returns the live reads of single objects of the controllers' kinds.
func (r requests) read() float64 {
	total := 0.0
	for key, value := range r {
		fields := strings.Fields(key)
		switch fields[1] {
		case "pipelines", "platforms", "secrets", "services", "deployments", "statefulsets", "jobs", "configmaps", "networkpolicies", "pods":
			if fields[0] == "GET" {
				total += value
			}
		}
	}
	return total
}
