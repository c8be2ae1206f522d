// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// BenchmarkForeignSecrets compares the memory of a fresh manager without foreign Secrets, with few of the maximum size,
// and with many small ones. It has one Pipeline besides.
func BenchmarkForeignSecrets(b *testing.B) {
	f := newFleet(b)
	f.namespace(b, "own")
	if err := f.Client.Create(b.Context(), generator("own", "one")); err != nil {
		b.Fatal(err)
	}
	resident, live := f.idleMemory(b)
	row(b, "memory without foreign Secrets", resident, "MiB", 150)
	for _, others := range []struct {
		name         string
		count, bytes int
	}{
		// A little less than 1 MiB, which the API server counts over all of a Secret's data.
		{"90 foreign Secrets of 1 MB", 90, 1_000_000},
		{"30000 foreign Secrets of 256 B", 30_000, 256},
	} {
		namespace := fmt.Sprintf("foreign-%d", others.count)
		f.namespace(b, namespace)
		objects := make([]client.Object, 0, others.count)
		for i := range others.count {
			objects = append(objects, &corev1.Secret{
				ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("foreign-%d", i)}, Data: map[string][]byte{"data": make([]byte, others.bytes)},
			})
		}
		f.post(b, objects)
		with, heap := f.idleMemory(b)
		b.Run("memory with "+others.name, func(b *testing.B) {
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(with, "MiB")
			b.ReportMetric(with/resident, "ratio")
			b.ReportMetric(heap/live, "live-heap-ratio")
			b.ReportMetric(1, "target-ratio")
		})
		if err := f.Client.DeleteAllOf(b.Context(), &corev1.Secret{}, client.InNamespace(namespace)); err != nil { // not to affect what follows
			b.Fatal(err)
		}
	}
}

// idleMemory returns the resident memory of a fresh idle manager, and its live heap, in MiB.
func (f *fleet) idleMemory(b *testing.B) (resident, live float64) {
	b.Helper()
	m := startManager(b, f.program, f.kubeconfig)
	await(b, time.Minute, func() error {
		if err := m.idle(b, 1); err != nil { // then all controllers have started
			return err
		}
		return m.synced(b)
	})
	_, live = m.load(b)
	resident = m.memory(b)
	m.stop(b)
	return resident, live
}
