// SPDX-License-Identifier: Apache-2.0

package dataflow

import (
	"cmp"
	"encoding/json"
	"fmt"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	dataflowv1alpha1 "github.com/itechsmart/operator/api/dataflow/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/connections"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

// render returns the worker's configuration for a Pipeline. targets has the connection of each component, by its path.
func render(p *dataflowv1alpha1.Pipeline, targets map[string]string, found map[string]connections.Found) *config.Pipeline {
	spec := &p.Spec
	out := &config.Pipeline{
		Namespace: p.Namespace, Name: p.Name, Generation: p.Generation,
		ConsumerGroup: p.Group(), Delivery: config.Delivery(cmp.Or(string(spec.Delivery), string(config.AtLeastOnce))),
		Batching: config.Batching{
			Count: int(spec.Batching.Count), Bytes: spec.Batching.Bytes.Value(), Period: config.Duration(spec.Batching.Period.Duration),
		},
		MaxRecordBytes: spec.MaxRecordSize.Value(),
	}
	onError := config.OnErrorFail
	if spec.DeadLetter != nil {
		onError = config.OnErrorDeadLetter
	}
	for i, s := range spec.Sources {
		out.Sources = append(out.Sources, config.Source{
			Name: s.Name, Type: s.Type, Connection: targets[fmt.Sprintf("spec.sources[%d]", i)], Config: rawJSON(s.Config), Codec: renderCodec(s.Codec),
		})
	}
	for _, t := range spec.Transforms {
		out.Transforms = append(out.Transforms, config.Transform{
			Name: t.Name, Type: t.Type, When: t.When, Config: rawJSON(t.Config),
			OnError: config.OnError(cmp.Or(string(t.OnError), string(onError))),
		})
	}
	for i, s := range spec.Sinks {
		out.Sinks = append(out.Sinks, config.Sink{
			Name: s.Name, Type: s.Type, Connection: targets[fmt.Sprintf("spec.sinks[%d]", i)], Config: rawJSON(s.Config), Codec: renderCodec(s.Codec),
			Retry: renderRetry(s.Retry), OnError: config.OnError(cmp.Or(string(s.OnError), string(onError))),
		})
	}
	if d := spec.DeadLetter; d != nil {
		out.DeadLetter = &config.Sink{
			Name: deadLetterName, Type: "kafka", Connection: targets["spec.deadLetter"], Config: deadLetterConfig(d),
			Retry: renderRetry(dataflowv1alpha1.Retry{}), OnError: config.OnErrorFail,
		}
	}
	for _, t := range spec.Tests {
		test := config.Test{Name: t.Name, ExpectErrors: int(t.ExpectErrors)}
		for _, value := range t.Input {
			test.Input = append(test.Input, value.Raw)
		}
		for _, value := range t.Expect {
			test.Expect = append(test.Expect, value.Raw)
		}
		out.Tests = append(out.Tests, test)
	}
	for name, c := range found {
		if out.Connections == nil {
			out.Connections = map[string]map[string]string{}
		}
		out.Connections[name] = c.Binding.Data()
	}
	return out
}

func renderCodec(c *dataflowv1alpha1.Codec) *config.Codec {
	if c == nil {
		return nil
	}
	return &config.Codec{Format: c.Format, Options: rawJSON(c.Options)}
}

func renderRetry(r dataflowv1alpha1.Retry) config.Retry {
	out := config.Retry{Initial: config.Duration(r.Initial.Duration), Max: config.Duration(r.Max.Duration)}
	if out.Initial <= 0 {
		out.Initial = config.Duration(defaultRetryInitial)
	}
	if out.Max <= 0 {
		out.Max = config.Duration(defaultRetryMax)
	}
	return out
}

func rawJSON(value *apiextensionsv1.JSON) json.RawMessage {
	if value == nil || len(value.Raw) == 0 {
		return nil
	}
	return json.RawMessage(value.Raw)
}

func deadLetterConfig(d *dataflowv1alpha1.DeadLetter) json.RawMessage {
	// Marshalling plain values cannot fail.
	data, _ := json.Marshal(map[string]any{"topic": d.Topic, "partitions": max(d.Partitions, 1)})
	return data
}
