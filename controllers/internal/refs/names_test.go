// SPDX-License-Identifier: Apache-2.0

package refs_test

import (
	"context"
	"sync"
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlreconcile "sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/itechsmart/operator/controllers/internal/ctrltest"
	"github.com/itechsmart/operator/controllers/internal/refs"
)

func TestMain(m *testing.M) { ctrltest.Main(m) }

// told collects what the names told of.
type wakes struct {
	mu   sync.Mutex
	keys []client.ObjectKey
}

func (t *wakes) wake(_ context.Context, key client.ObjectKey) []ctrlreconcile.Request {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keys = append(t.keys, key)
	return []ctrlreconcile.Request{{NamespacedName: key}}
}

func (t *wakes) count(key client.ObjectKey) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	count := 0
	for _, k := range t.keys {
		if k == key {
			count++
		}
	}
	return count
}

func secretIn(namespace, name string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
}

// watchNames runs a watch, whose source is synced when it returns.
func watchNames(t *testing.T, cfg *rest.Config, namespaces ...string) (*refs.Names, *wakes) {
	t.Helper()
	httpClient, err := rest.HTTPClientFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	names, err := refs.NewNames(cfg, httpClient, namespaces)
	if err != nil {
		t.Fatal(err)
	}
	heard := &wakes{}
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[ctrlreconcile.Request]())
	source := names.Source(heard.wake)
	if err := source.Start(t.Context(), queue); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- names.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		queue.ShutDown()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	if err := source.WaitForSync(t.Context()); err != nil {
		t.Fatal(err)
	}
	return names, heard
}

func TestNames(t *testing.T) {
	c, cfg := ctrltest.Env(t)
	for _, scope := range []string{"all namespaces", "one namespace"} {
		t.Run(scope, func(t *testing.T) {
			g := NewWithT(t)
			namespace, other := ctrltest.Namespace(t), ctrltest.Namespace(t)
			old, elsewhere := secretIn(namespace, "old"), secretIn(other, "old")
			g.Expect(c.Create(t.Context(), old)).To(Succeed())
			g.Expect(c.Create(t.Context(), elsewhere)).To(Succeed())
			var namespaces []string
			if scope == "one namespace" {
				namespaces = []string{namespace}
			}
			names, heard := watchNames(t, cfg, namespaces...)
			version := func(secret *corev1.Secret) string {
				known, watched := names.Version(client.ObjectKeyFromObject(secret))
				g.Expect(watched).To(BeTrue())
				return known
			}
			g.Expect(version(old)).To(Equal(refs.VersionOf(old)))
			g.Expect(heard.count(client.ObjectKeyFromObject(old))).To(BeZero(), "what there is at the start is no news")
			_, watched := names.Version(client.ObjectKeyFromObject(elsewhere))
			g.Expect(watched).To(Equal(namespaces == nil))

			fresh := secretIn(namespace, "fresh")
			g.Expect(c.Create(t.Context(), fresh)).To(Succeed())
			g.Eventually(version).WithArguments(fresh).Should(Equal(refs.VersionOf(fresh)))
			fresh.Data = map[string][]byte{"key": []byte("value")}
			g.Expect(c.Update(t.Context(), fresh)).To(Succeed())
			g.Eventually(version).WithArguments(fresh).Should(Equal(refs.VersionOf(fresh)))
			g.Expect(c.Delete(t.Context(), fresh)).To(Succeed())
			g.Eventually(version).WithArguments(fresh).Should(BeEmpty())
			g.Eventually(heard.count).WithArguments(client.ObjectKeyFromObject(fresh)).Should(Equal(3))
			g.Expect(heard.count(client.ObjectKeyFromObject(elsewhere))).To(BeZero())
		})
	}
}
