// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	dataflowv1alpha1 "github.com/itechsmart/operator/api/dataflow/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
)

const (
	// groupSize resources are one Platform and Pipelines: streamed of them with Kafka and ClickHouse, tested of them with
	// tests, and the others without a backend.
	groupSize, streamed, tested = 20, 2, 2
	// groupsPerNamespace: a namespace is a tenant.
	groupsPerNamespace = 5
)

// pipelines returns how many of the resources are Pipelines.
func (f *fleet) pipelines() int { return f.resources / groupSize * (groupSize - 1) }

func (f *fleet) namespace(b *testing.B, name string) {
	b.Helper()
	if err := f.Client.Create(context.Background(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
		b.Fatal(err)
	}
}

// mixed returns the resources, after creating the namespaces and the Secrets that they need.
func (f *fleet) mixed(b *testing.B) []client.Object {
	b.Helper()
	bindings := map[string]backend.Binding{"kafka": servers.Kafka(b), "clickhouse": servers.ClickHouse(b)}
	var out []client.Object
	for group := range f.resources / groupSize {
		namespace := fmt.Sprintf("bench-%d", group/groupsPerNamespace)
		if group%groupsPerNamespace == 0 {
			f.namespace(b, namespace)
			for name, binding := range bindings {
				data := map[string][]byte{}
				for key, value := range binding.Data() {
					data[key] = []byte(value)
				}
				secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Data: data}
				if err := f.Client.Create(context.Background(), secret); err != nil {
					b.Fatal(err)
				}
			}
		}
		platform := externalPlatform(namespace, fmt.Sprintf("platform-%d", group))
		out = append(out, platform)
		for i := range groupSize - 1 {
			name := fmt.Sprintf("pipeline-%d-%d", group, i)
			switch {
			case i < streamed:
				out = append(out, stream(namespace, name, platform.Name))
			case i < streamed+tested:
				p := generator(namespace, name)
				p.Spec.Tests = []dataflowv1alpha1.Test{{Name: "same", Input: []apiextensionsv1.JSON{*raw(`{"a":1}`)}, Expect: []apiextensionsv1.JSON{*raw(`{"a":1}`)}}}
				out = append(out, p)
			default:
				out = append(out, generator(namespace, name))
			}
		}
	}
	return out
}

func externalPlatform(namespace, name string) *platformv1alpha1.Platform {
	at := func(secret string) *platformv1alpha1.Backend {
		return &platformv1alpha1.Backend{External: &platformv1alpha1.ExternalBackend{SecretRef: platformv1alpha1.SecretReference{Name: secret}}}
	}
	return &platformv1alpha1.Platform{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       platformv1alpha1.PlatformSpec{Backends: platformv1alpha1.Backends{Kafka: at("kafka"), ClickHouse: at("clickhouse")}},
	}
}

// generator returns a Pipeline that needs no backend.
func generator(namespace, name string) *dataflowv1alpha1.Pipeline {
	return &dataflowv1alpha1.Pipeline{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: dataflowv1alpha1.PipelineSpec{
			Sources: []dataflowv1alpha1.Source{{Name: "in", Type: "generate", Config: raw(`{"rate":1}`)}},
			Sinks:   []dataflowv1alpha1.Sink{{Name: "out", Type: "drop"}},
		},
	}
}

// stream returns a Pipeline that creates a topic and a table.
func stream(namespace, name, platform string) *dataflowv1alpha1.Pipeline {
	return &dataflowv1alpha1.Pipeline{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: dataflowv1alpha1.PipelineSpec{
			PlatformRef: &dataflowv1alpha1.PlatformReference{Name: platform},
			Sources:     []dataflowv1alpha1.Source{{Name: "in", Type: "kafka", Config: raw(`{"topic":%q,"partitions":1}`, name)}},
			Sinks: []dataflowv1alpha1.Sink{{Name: "out", Type: "clickhouse", Config: raw(
				`{"database":"itechsmart","table":%q,"create":true,"columns":[{"name":"id","type":"Int64"}],"orderBy":["id"]}`, strings.ReplaceAll(name, "-", "_"))}},
		},
	}
}

func raw(format string, args ...any) *apiextensionsv1.JSON {
	return &apiextensionsv1.JSON{Raw: fmt.Appendf(nil, format, args...)}
}
