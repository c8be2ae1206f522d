// SPDX-License-Identifier: Apache-2.0

package ctrltest

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func TestMain(m *testing.M) { Main(m) }

func TestCountTellsReadsFromWrites(t *testing.T) {
	_, cfg := Env(t)
	counted, requests := Count(cfg)
	c, err := client.New(counted, client.Options{Scheme: Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	namespace := Namespace(t)
	requests.Reset()
	ctx := context.Background()
	if err := c.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "a"}}); err != nil {
		t.Fatal(err)
	}
	if err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "a"}, &corev1.ConfigMap{}); err != nil {
		t.Fatal(err)
	}
	if writes := requests.Writes(); len(writes) != 1 {
		t.Errorf("writes: %v", writes)
	}
	if len(requests.Reads()) == 0 {
		t.Error("no read was counted")
	}
}
