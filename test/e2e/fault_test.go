// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	dataflowv1alpha1 "github.com/itechsmart/operator/api/dataflow/v1alpha1"
)

// duplicatesPerFault limits what at-least-once may write twice when a part is killed: what was in flight.
const duplicatesPerFault = 200_000

// TestKills sends SIGKILL to each part in turn while records stream. No record may be lost.
func TestKills(t *testing.T) {
	c := connect(t)
	c.stream("kills", 3000, common.DeletionDelete)
	c.flowing("kills")
	victims := []struct {
		name, namespace string
		labels          map[string]string
	}{
		{"worker", namespace, map[string]string{common.LabelComponent: "pipeline-worker", "app.kubernetes.io/instance": "kills"}},
		{"kafka", namespace, map[string]string{"app.kubernetes.io/name": "kafka", "app.kubernetes.io/instance": "main"}},
		{"clickhouse", namespace, map[string]string{"app.kubernetes.io/name": "clickhouse", "app.kubernetes.io/instance": "main"}},
		{"manager", "itechsmart-system", map[string]string{"app.kubernetes.io/name": "itechsmart"}},
	}
	for _, victim := range victims {
		start := time.Now()
		c.crash(victim.namespace, victim.labels)
		c.flowing("kills")
		if victim.name == "manager" { // only a restarted manager can roll out an edit
			c.edit("kills", func(s *dataflowv1alpha1.PipelineSpec) { s.Batching.Count = 4000 })
		}
		c.ready("kills", dataflowv1alpha1.PhaseRunning)
		c.platformReady()
		t.Logf("kill -9 of %s: converged after %.1f s", victim.name, time.Since(start).Seconds())
	}
	c.Expect(c.complete("kills")).To(BeNumerically("<=", len(victims)*duplicatesPerFault))
	c.remove("kills-gen")
	c.remove("kills")
}

// TestAPIServerDown checks that the control plane is not on the data path.
func TestAPIServerDown(t *testing.T) {
	c := connect(t)
	c.stream("headless", 1000, common.DeletionDelete)
	c.flowing("headless")
	b := c.binding("clickhouse")
	count := func() int64 {
		out, err := query(c.ctx, b, "SELECT count() FROM e2e.headless")
		c.Expect(err).NotTo(HaveOccurred())
		return out[0]
	}
	c.unlimited()
	v, path := c.vault(), "e2e/headless"
	_ = v.Delete(c.ctx, path, true) // an earlier run may have left it
	_, err := v.Create(c.ctx, path, text("before"))
	c.Expect(err).NotTo(HaveOccurred())
	version := int64(1)
	c.localcluster("stop", "kube-apiserver")
	t.Cleanup(func() { _ = localcluster(context.Background(), "start", "kube-apiserver") })
	const outage = 2 * time.Minute
	start := time.Now()
	for n := 0; time.Since(start) < outage; n++ {
		version = c.withoutAPIServer(v, path, n)
		before := count()
		c.Eventually(count, 30*time.Second, often).Should(BeNumerically(">", before), "records must flow without an API server")
	}
	c.localcluster("start", "kube-apiserver")
	c.Eventually(func() error {
		return c.client.Get(c.ctx, client.ObjectKey{Namespace: namespace, Name: "headless"}, &dataflowv1alpha1.Pipeline{})
	}, patience, often).Should(Succeed())
	c.ready("headless", dataflowv1alpha1.PhaseRunning)
	c.Expect(c.complete("headless")).To(BeNumerically("<=", duplicatesPerFault))
	c.remove("headless-gen")
	c.remove("headless")
	c.noted(path, version)
	c.Expect(v.Delete(c.ctx, path, true)).To(Succeed())
}
