// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"errors"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	dataflowv1alpha1 "github.com/itechsmart/operator/api/dataflow/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/internal/backend/clickhouse"
	"github.com/itechsmart/operator/internal/backend/kafka"
)

// database exists on the test server.
const database = "itechsmart"

func TestPlatformIsCreated(t *testing.T) {
	scenario{
		settle: func(c *cell) { c.bindings() },
		act:    func(c *cell) { c.create(newPlatform()) },
		done:   (*cell).platformReady,
	}.everywhere(t)
}

func TestPlatformLosesABackend(t *testing.T) {
	scenario{
		settle: func(c *cell) { c.platform() },
		act: func(c *cell) {
			p := newPlatform()
			c.edit(p, func() { p.Spec.Backends.Redis = nil })
		},
		done: (*cell).platformReady,
	}.everywhere(t)
}

func TestPipelineIsCreated(t *testing.T) {
	scenario{
		settle: func(c *cell) { c.platform(); c.foreign() },
		act:    func(c *cell) { c.create(c.pipeline(common.DeletionDelete)) },
		done:   (*cell).pipelineReady,
	}.everywhere(t)
}

func TestPipelineIsEdited(t *testing.T) {
	scenario{
		settle: func(c *cell) { c.running(common.DeletionDelete) },
		act: func(c *cell) {
			p := c.pipeline("")
			c.edit(p, func() {
				p.Spec.Sources[0].Config = raw(`{"topic":%q,"partitions":3,"retention":"48h"}`, c.prefix+"-in")
				p.Spec.Sinks[0].Config = raw(`{"database":%q,"table":%q,"create":true,"columns":[{"name":"id","type":"Int64"},{"name":"name","type":"String"}],"orderBy":["id"]}`,
					database, c.prefix+"_out")
			})
		},
		done: (*cell).pipelineReady,
	}.everywhere(t)
}

func TestPipelineIsPaused(t *testing.T) {
	scenario{
		settle: func(c *cell) { c.running(common.DeletionDelete) },
		act: func(c *cell) {
			p := c.pipeline("")
			c.edit(p, func() { p.Spec.Paused = true })
		},
		done: (*cell).pipelineReady,
	}.everywhere(t)
}

func TestPipelineIsDeleted(t *testing.T) {
	for _, policy := range []common.DeletionPolicy{common.DeletionDelete, common.DeletionRetain} {
		t.Run(string(policy), func(t *testing.T) {
			scenario{
				settle: func(c *cell) { c.running(policy) },
				act: func(c *cell) {
					if err := world.Client.Delete(c.ctx, c.pipeline("")); err != nil {
						c.t.Fatal(err)
					}
				},
				done: func(c *cell) error {
					err := world.Client.Get(c.ctx, client.ObjectKeyFromObject(c.pipeline("")), &dataflowv1alpha1.Pipeline{})
					if apierrors.IsNotFound(err) {
						return c.deleted(policy)
					}
					return errors.Join(errors.New("the Pipeline still exists"), err)
				},
			}.everywhere(t)
		})
	}
}

// deleted checks that the deletion policy was followed.
func (c *cell) deleted(policy common.DeletionPolicy) error {
	have := c.backends()
	for _, name := range []string{"topic " + c.prefix + "-foreign", "table " + c.prefix + "_foreign"} {
		if have[name] == "" {
			c.t.Fatalf("foreign %s was dropped", name)
		}
	}
	for _, name := range []string{"topic " + c.prefix + "-in", "topic " + c.prefix + "-dead", "table " + c.prefix + "_out"} {
		if exists := have[name] != ""; exists != (policy == common.DeletionRetain) {
			c.t.Fatalf("policy %s: %s exists: %t", policy, name, exists)
		}
	}
	return nil
}

func (c *cell) create(obj client.Object) {
	c.t.Helper()
	obj.SetNamespace(c.namespace)
	if err := world.Client.Create(c.ctx, obj); err != nil {
		c.t.Fatal(err)
	}
}

// edit reads the object again, and patches it with change.
func (c *cell) edit(obj client.Object, change func()) {
	c.t.Helper()
	obj.SetNamespace(c.namespace)
	err := world.Client.Get(c.ctx, client.ObjectKeyFromObject(obj), obj)
	if err == nil {
		base := obj.DeepCopyObject().(client.Object)
		change()
		err = world.Client.Patch(c.ctx, obj, client.MergeFrom(base))
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// bindings creates the Secrets of external backends.
func (c *cell) bindings() {
	c.t.Helper()
	for name, b := range map[string]backend.Binding{"kafka": servers.Kafka(c.t), "clickhouse": servers.ClickHouse(c.t), "redis": servers.Redis(c.t)} {
		data := map[string][]byte{}
		for key, value := range b.Data() {
			data[key] = []byte(value)
		}
		c.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data})
	}
}

func newPlatform() *platformv1alpha1.Platform {
	at := func(secret string) *platformv1alpha1.Backend {
		return &platformv1alpha1.Backend{External: &platformv1alpha1.ExternalBackend{SecretRef: platformv1alpha1.SecretReference{Name: secret}}}
	}
	return &platformv1alpha1.Platform{
		ObjectMeta: metav1.ObjectMeta{Name: "main"},
		Spec:       platformv1alpha1.PlatformSpec{Backends: platformv1alpha1.Backends{Kafka: at("kafka"), ClickHouse: at("clickhouse"), Redis: at("redis")}},
	}
}

// platform creates a Platform and waits until it is Ready.
func (c *cell) platform() {
	c.t.Helper()
	c.bindings()
	c.create(newPlatform())
	c.await((*cell).platformReady)
}

// foreign creates a topic and a table outside of any Pipeline.
func (c *cell) foreign() {
	c.t.Helper()
	broker, err := kafka.New(servers.Kafka(c.t))
	if err != nil {
		c.t.Fatal(err)
	}
	defer broker.Close() //nolint:errcheck // the topic says whether it worked
	if err := broker.CreateTopic(c.ctx, kafka.Topic{Name: c.prefix + "-foreign", Partitions: 1}); err != nil {
		c.t.Fatal(err)
	}
	store, err := clickhouse.New(servers.ClickHouse(c.t))
	if err != nil {
		c.t.Fatal(err)
	}
	defer store.Close() //nolint:errcheck // the table says whether it worked
	err = store.CreateTable(c.ctx, clickhouse.Table{
		Database: database, Name: c.prefix + "_foreign", Columns: []clickhouse.Column{{Name: "id", Type: "Int64"}}, Engine: "MergeTree", OrderBy: "id",
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

// pipeline returns a Pipeline that reads and writes objects of its own and foreign ones, and has tests and a dead letter.
func (c *cell) pipeline(policy common.DeletionPolicy) *dataflowv1alpha1.Pipeline {
	return &dataflowv1alpha1.Pipeline{
		ObjectMeta: metav1.ObjectMeta{Name: "flow", Namespace: c.namespace},
		Spec: dataflowv1alpha1.PipelineSpec{
			DeletionPolicy: policy,
			Sources: []dataflowv1alpha1.Source{
				{Name: "own", Type: "kafka", Config: raw(`{"topic":%q,"partitions":2,"retention":"24h"}`, c.prefix+"-in")},
				{Name: "foreign", Type: "kafka", Config: raw(`{"topic":%q}`, c.prefix+"-foreign")},
			},
			Sinks: []dataflowv1alpha1.Sink{
				{Name: "own", Type: "clickhouse", Config: raw(`{"database":%q,"table":%q,"create":true,"columns":[{"name":"id","type":"Int64"}],"orderBy":["id"]}`, database, c.prefix+"_out")},
				{Name: "foreign", Type: "clickhouse", Config: raw(`{"database":%q,"table":%q}`, database, c.prefix+"_foreign")},
			},
			DeadLetter: &dataflowv1alpha1.DeadLetter{Topic: c.prefix + "-dead"},
			Tests:      []dataflowv1alpha1.Test{{Name: "same", Input: []apiextensionsv1.JSON{*raw(`{"id":1}`)}, Expect: []apiextensionsv1.JSON{*raw(`{"id":1}`)}}},
		},
	}
}

func raw(format string, args ...any) *apiextensionsv1.JSON {
	return &apiextensionsv1.JSON{Raw: fmt.Appendf(nil, format, args...)}
}

// running creates a Pipeline and waits until it is Ready.
func (c *cell) running(policy common.DeletionPolicy) {
	c.t.Helper()
	c.platform()
	c.foreign()
	c.create(c.pipeline(policy))
	c.await((*cell).pipelineReady)
}

func (c *cell) pipelineReady() error {
	p := c.pipeline("")
	if err := world.Client.Get(c.ctx, client.ObjectKeyFromObject(p), p); err != nil {
		return err
	}
	return ready(p.Status.Conditions, p.Generation)
}

func (c *cell) platformReady() error {
	p := newPlatform()
	if err := world.Client.Get(c.ctx, client.ObjectKey{Namespace: c.namespace, Name: p.Name}, p); err != nil {
		return err
	}
	return ready(p.Status.Conditions, p.Generation)
}

func ready(conditions []metav1.Condition, generation int64) error {
	found := meta.FindStatusCondition(conditions, common.ConditionReady)
	if found == nil || found.Status != metav1.ConditionTrue || found.ObservedGeneration != generation {
		return fmt.Errorf("not Ready: %+v", found)
	}
	return nil
}
