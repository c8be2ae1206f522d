// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/parquet-go/parquet-go"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	dataflowv1alpha1 "github.com/itechsmart/operator/api/dataflow/v1alpha1"
)

// TestQuickstart compares the table with the file that it was loaded from.
func TestQuickstart(t *testing.T) {
	c := connect(t)
	c.ready("flights", dataflowv1alpha1.PhaseRunning)
	want := sums(t, filepath.Join(root(), ".local", "data", "flights-3m.parquet"))
	c.Eventually(func() ([]int64, error) {
		return c.rows("SELECT count(), sum(delay), sum(distance), uniqExact(id), toInt64(sum(toUInt64(id))) FROM quickstart.flights")
	}, patience, often).Should(Equal(want))
}

// sums returns rows, sum of delay, sum of distance, distinct ids and sum of ids of the source file; a record's id is its
// row.
func sums(t *testing.T, path string) []int64 {
	t.Helper()
	g := NewWithT(t)
	file, err := os.Open(path)
	g.Expect(err).NotTo(HaveOccurred())
	defer file.Close()
	type flight struct {
		Delay    int64 `parquet:"delay,optional"`
		Distance int64 `parquet:"distance,optional"`
	}
	reader := parquet.NewGenericReader[flight](file)
	defer reader.Close()
	var rows, delay, distance, ids int64
	buffer := make([]flight, 8192)
	for {
		n, err := reader.Read(buffer)
		for _, f := range buffer[:n] {
			delay, distance, ids = delay+f.Delay, distance+f.Distance, ids+rows
			rows++
		}
		if errors.Is(err, io.EOF) {
			return []int64{rows, delay, distance, rows, ids}
		}
		g.Expect(err).NotTo(HaveOccurred())
	}
}

// stream creates a Pipeline from a generator into a topic and one from there into a table, both named after the test.
func (c *cluster) stream(name string, rate int, policy common.DeletionPolicy) {
	c.t.Helper()
	c.remove(name + "-gen")
	c.remove(name)
	c.create(&dataflowv1alpha1.Pipeline{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: dataflowv1alpha1.PipelineSpec{
			DeletionPolicy: policy,
			Sources:        []dataflowv1alpha1.Source{{Name: "in", Type: "kafka", Config: raw(fmt.Sprintf(`{"topic":"e2e-%s","partitions":4}`, name))}},
			Sinks: []dataflowv1alpha1.Sink{{Name: "out", Type: "clickhouse", Config: raw(fmt.Sprintf(
				`{"database":"e2e","table":"%s","create":true,"columns":[{"name":"sequence","type":"UInt64"}],"orderBy":["sequence"]}`, name))}},
		},
	})
	c.ready(name, dataflowv1alpha1.PhaseRunning)
	c.create(&dataflowv1alpha1.Pipeline{
		ObjectMeta: metav1.ObjectMeta{Name: name + "-gen"},
		Spec: dataflowv1alpha1.PipelineSpec{
			Sources: []dataflowv1alpha1.Source{{Name: "in", Type: "generate", Config: raw(fmt.Sprintf(`{"rate":%d,"keys":64}`, rate))}},
			Sinks:   []dataflowv1alpha1.Sink{{Name: "out", Type: "kafka", Config: raw(fmt.Sprintf(`{"topic":"e2e-%s"}`, name))}},
		},
	})
	c.ready(name+"-gen", dataflowv1alpha1.PhaseRunning)
}

// flowing waits until more rows arrive, and logs how long that took.
func (c *cluster) flowing(table string) {
	c.t.Helper()
	before := c.count("SELECT count() FROM e2e." + table)
	start := time.Now()
	c.Eventually(func() int64 { return c.count("SELECT count() FROM e2e." + table) }, patience, often).Should(BeNumerically(">", before))
	c.t.Logf("rows arrive again after %.1f s", time.Since(start).Seconds())
}

// complete stops the generator and checks that every sequence number from 0 to the last has arrived, then returns the
// number of duplicates.
func (c *cluster) complete(name string) int64 {
	c.t.Helper()
	c.edit(name+"-gen", func(s *dataflowv1alpha1.PipelineSpec) { s.Paused = true })
	c.ready(name+"-gen", dataflowv1alpha1.PhasePaused)
	var rows, distinct int64
	c.Eventually(func(g Gomega) {
		out, err := c.rows("SELECT count(), uniqExact(sequence), toInt64(max(sequence)) FROM e2e." + name)
		g.Expect(err).NotTo(HaveOccurred())
		rows, distinct = out[0], out[1]
		g.Expect(distinct).To(Equal(out[2]+1), "sequence numbers are missing")
		lag := c.pipeline(name).Status.Lag
		g.Expect(lag).NotTo(BeNil())
		g.Expect(*lag).To(BeZero())
	}, patience, often).Should(Succeed())
	c.t.Logf("%d records, none lost, %d duplicates", distinct, rows-distinct)
	return rows - distinct
}

// TestLifecycle edits, pauses, resumes and scales a Pipeline while records stream, then deletes it.
func TestLifecycle(t *testing.T) {
	c := connect(t)
	c.stream("life", 2000, common.DeletionDelete)
	c.flowing("life")

	c.edit("life", func(s *dataflowv1alpha1.PipelineSpec) {
		s.Sinks[0].Config = raw(`{"database":"e2e","table":"life","create":true,"columns":[{"name":"sequence","type":"UInt64"},{"name":"note","type":"String","default":"'new'"}],"orderBy":["sequence"]}`)
		s.Transforms = []dataflowv1alpha1.Transform{{Name: "all", Type: "filter", When: "this.sequence >= 0"}}
	})
	c.ready("life", dataflowv1alpha1.PhaseRunning)
	c.flowing("life")
	c.Expect(c.count("SELECT count() FROM system.columns WHERE database = 'e2e' AND table = 'life' AND name = 'note'")).To(Equal(int64(1)))

	c.edit("life", func(s *dataflowv1alpha1.PipelineSpec) { s.Paused = true })
	c.ready("life", dataflowv1alpha1.PhasePaused)
	paused := c.count("SELECT count() FROM e2e.life")
	c.Consistently(func() int64 { return c.count("SELECT count() FROM e2e.life") }, 3*time.Second, often).Should(Equal(paused))

	c.edit("life", func(s *dataflowv1alpha1.PipelineSpec) { s.Paused, s.Replicas = false, ptr.To[int32](2) })
	c.ready("life", dataflowv1alpha1.PhaseRunning)
	c.Expect(c.pipeline("life").Status.Replicas).To(Equal(int32(2)))
	c.flowing("life")
	c.Expect(c.complete("life")).To(BeNumerically("<=", 100_000), "an edit drains: duplicates are limited to what was in flight")

	c.remove("life-gen")
	c.remove("life")
	c.Expect(c.count("SELECT count() FROM system.tables WHERE database = 'e2e' AND name = 'life'")).To(BeZero())
	c.noOrphans("life")
}

// TestRetain keeps the table of a deleted Pipeline, and a new Pipeline continues with it.
func TestRetain(t *testing.T) {
	c := connect(t)
	c.stream("kept", 500, common.DeletionRetain)
	c.flowing("kept")
	c.remove("kept-gen")
	c.remove("kept")
	c.noOrphans("kept")
	c.Expect(c.count("SELECT count() FROM e2e.kept")).To(BeNumerically(">", 0))
	c.drop("kept")
}

// noOrphans waits until nothing that the operator created for a Pipeline is left.
func (c *cluster) noOrphans(name string) {
	c.t.Helper()
	for _, list := range []client.ObjectList{
		&appsv1.DeploymentList{}, &batchv1.JobList{}, &corev1.SecretList{}, &corev1.ServiceList{}, &corev1.PodList{}, &networkingv1.NetworkPolicyList{},
	} {
		c.Eventually(func(g Gomega) {
			g.Expect(c.client.List(c.ctx, list, client.InNamespace(namespace), client.MatchingLabels{common.LabelOwnerKind: "Pipeline", common.LabelOwnerName: name})).To(Succeed())
			g.Expect(meta.LenList(list)).To(BeZero(), "%T of Pipeline %s is left", list, name)
		}, patience, often).Should(Succeed())
	}
}

// drop removes a retained table.
func (c *cluster) drop(table string) {
	c.t.Helper()
	b := c.binding("clickhouse")
	_, err := query(c.ctx, b, "DROP TABLE e2e."+table)
	c.Expect(err).NotTo(HaveOccurred())
}
