// SPDX-License-Identifier: Apache-2.0

// Package samples applies every sample, and every example of the documentation, to a real API server, and validates each
// Pipeline with the pipeline worker, its tests included.
package samples

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	dataflowv1alpha1 "github.com/itechsmart/operator/api/dataflow/v1alpha1"
	"github.com/itechsmart/operator/test/kube"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

var root = filepath.Join("..", "..")

// fenced matches a block of YAML in a page.
var fenced = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```")

// sources returns all texts with resources, by location.
func sources(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	err := filepath.WalkDir(filepath.Join(root, "config", "samples"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".yaml" || entry.Name() == "kustomization.yaml" {
			return err
		}
		data, err := os.ReadFile(path)
		texts[strings.TrimPrefix(path, root+string(filepath.Separator))] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	kinds, err := filepath.Glob(filepath.Join(root, "docs", "*", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(append(pages, kinds...), filepath.Join(root, "README.md")) {
		data, err := os.ReadFile(page)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range fenced.FindAllSubmatchIndex(data, -1) {
			text := string(data[block[2]:block[3]])
			if strings.Contains(text, "itechsmart.dev/") && strings.Contains(text, "\nkind: ") {
				texts[fmt.Sprintf("%s:%d", strings.TrimPrefix(page, root+string(filepath.Separator)), 1+bytes.Count(data[:block[2]], []byte("\n")))] = text
			}
		}
	}
	return texts
}

func parse(t *testing.T, text string) []*unstructured.Unstructured {
	t.Helper()
	var list []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096)
	for {
		obj := &unstructured.Unstructured{}
		err := decoder.Decode(&obj.Object)
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(obj.Object) > 0 {
			list = append(list, obj)
		}
	}
}

func startAPIServer(t *testing.T) *kube.Server {
	t.Helper()
	server, err := kube.Start(scheme.Scheme)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	return server
}

func buildWorker(t *testing.T) string {
	t.Helper()
	worker := filepath.Join(t.TempDir(), "dataflow-worker")
	command := exec.Command("go", "build", "-o", worker, "./workloads/dataflow/worker")
	command.Dir = root
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("build the worker: %v\n%s", err, out)
	}
	return worker
}

func TestSamples(t *testing.T) {
	server, worker := startAPIServer(t), buildWorker(t)
	c := client.WithFieldValidation(server.Client, metav1.FieldValidationStrict)
	all := sources(t)
	if len(all) < 10 {
		t.Errorf("only %d samples found", len(all))
	}
	for where, text := range all {
		t.Run(where, func(t *testing.T) {
			namespace := server.Namespace(t, "sample")
			list := parse(t, text)
			if len(list) == 0 {
				t.Fatal("no resource in it")
			}
			for _, obj := range list {
				if obj.GetKind() == "Namespace" {
					continue
				}
				obj.SetNamespace(namespace)
				apply(t, c, obj)
				if obj.GetKind() == "Pipeline" {
					check(t, worker, obj)
				}
			}
		})
	}
}

func apply(t *testing.T, c client.Client, obj *unstructured.Unstructured) {
	t.Helper()
	if err := c.Create(t.Context(), obj); err != nil {
		t.Fatalf("%s %s: %v", obj.GetKind(), obj.GetName(), err)
	}
}

// check validates a Pipeline with the worker as the API server returns it, defaults included.
func check(t *testing.T, worker string, obj *unstructured.Unstructured) {
	t.Helper()
	var p dataflowv1alpha1.Pipeline
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj.Object, &p); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(workerConfig(&p))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), config.FileName)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(worker, "check", "--config", file).CombinedOutput(); err != nil {
		t.Errorf("Pipeline %s: %v\n%s", p.Name, err, out)
	}
}

// workerConfig gives every component that needs a connection one of the right type.
func workerConfig(p *dataflowv1alpha1.Pipeline) *config.Pipeline {
	out := &config.Pipeline{
		Namespace: p.Namespace, Name: p.Name, ConsumerGroup: "sample", Delivery: config.AtLeastOnce,
		Batching:       config.Batching{Count: 1000, Bytes: 1 << 20, Period: config.Duration(p.Spec.Batching.Period.Duration)},
		MaxRecordBytes: p.Spec.MaxRecordSize.Value(), Connections: map[string]map[string]string{},
	}
	connect := func(kind, typ string) string {
		info, ok := config.Connector(kind, typ)
		if !ok || info.Binding == "" {
			return ""
		}
		out.Connections[info.Binding] = map[string]string{
			"type": info.Binding, "host": "sample", "port": "1", "username": "u", "password": "p", "access-key": "a", "secret-key": "s",
			"bootstrap-servers": "sample:9092", "database": "d",
		}
		return info.Binding
	}
	onError := config.OnErrorFail
	if p.Spec.DeadLetter != nil {
		onError = config.OnErrorDeadLetter
		out.DeadLetter = &config.Sink{
			Name: "dead-letter", Type: "kafka", Connection: connect(config.KindSink, "kafka"), OnError: config.OnErrorFail,
			Config: json.RawMessage(fmt.Sprintf(`{"topic":%q}`, p.Spec.DeadLetter.Topic)),
		}
	}
	for _, s := range p.Spec.Sources {
		out.Sources = append(out.Sources, config.Source{Name: s.Name, Type: s.Type, Connection: connect(config.KindSource, s.Type), Config: raw(s.Config), Codec: codec(s.Codec)})
	}
	for _, tr := range p.Spec.Transforms {
		out.Transforms = append(out.Transforms, config.Transform{Name: tr.Name, Type: tr.Type, When: tr.When, Config: raw(tr.Config), OnError: onError})
	}
	for _, s := range p.Spec.Sinks {
		out.Sinks = append(out.Sinks, config.Sink{Name: s.Name, Type: s.Type, Connection: connect(config.KindSink, s.Type), Config: raw(s.Config), Codec: codec(s.Codec), OnError: onError})
	}
	for _, test := range p.Spec.Tests {
		one := config.Test{Name: test.Name, ExpectErrors: int(test.ExpectErrors)}
		for _, value := range test.Input {
			one.Input = append(one.Input, value.Raw)
		}
		for _, value := range test.Expect {
			one.Expect = append(one.Expect, value.Raw)
		}
		out.Tests = append(out.Tests, one)
	}
	return out
}

func raw(value *apiextensionsv1.JSON) json.RawMessage {
	if value == nil {
		return nil
	}
	return value.Raw
}

func codec(c *dataflowv1alpha1.Codec) *config.Codec {
	if c == nil {
		return nil
	}
	return &config.Codec{Format: c.Format, Options: raw(c.Options)}
}
