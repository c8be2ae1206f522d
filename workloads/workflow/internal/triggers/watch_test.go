// SPDX-License-Identifier: Apache-2.0

package triggers

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/itechsmart/operator/workloads/workflow/internal/enginetest"
)

func podWorkflow(kind string) string {
	return fmt.Sprintf(`{"inputs":[{"name":"what"}],"history":{"successful":1000},
		"triggers":[{"name":"pods","type":"Event","event":{"source":"kubernetes","name":%q},"inputs":{"what":"${{ trigger.body.type + ' ' + trigger.body.object.metadata.name }}"}}],
		"steps":[{"name":"a","type":"transform","with":{"value":1}}]}`, kind)
}

func TestKubernetes(t *testing.T) {
	r := enginetest.New(t)
	pod := func(name string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: r.Namespace}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a", Image: "example/a:1"}}}}
	}
	create := func(name string) {
		t.Helper()
		r.G.Expect(r.Client.Create(t.Context(), pod(name))).To(Succeed())
	}
	remove := func(name string) {
		t.Helper()
		r.G.Expect(r.Client.Delete(t.Context(), pod(name), client.GracePeriodSeconds(0))).To(Succeed())
	}
	changes := func(workflow string) func() []string {
		return func() []string {
			var out []string
			for _, text := range bodies(r, workflow) {
				var inputs struct{ What string }
				r.G.Expect(json.Unmarshal([]byte(text), &inputs)).To(Succeed())
				if inputs.What != "Modified b" { // being deleted
					out = append(out, inputs.What)
				}
			}
			return out
		}
	}
	create("before")
	one, two := follow(r, &bound{}, nil), follow(r, &bound{}, nil)
	r.Put("watcher", podWorkflow("Pod"))
	leader := func() *replica { // the replica that watches
		var found *replica
		r.G.Eventually(func() bool {
			for _, p := range []*replica{one, two} {
				if ready, _ := p.State("watcher", "pods"); ready {
					found = p
				}
			}
			return found != nil
		}, enginetest.Long, 10*time.Millisecond).Should(BeTrue())
		return found
	}
	first := leader()
	create("a")
	r.G.Eventually(changes("watcher"), enginetest.Long).Should(ConsistOf("Added a"), "and not objects from before")
	changed := pod("a")
	r.G.Expect(r.Client.Get(t.Context(), client.ObjectKeyFromObject(changed), changed)).To(Succeed())
	changed.Labels = map[string]string{"x": "y"}
	r.G.Expect(r.Client.Update(t.Context(), changed)).To(Succeed())
	r.G.Eventually(changes("watcher"), enginetest.Long).Should(ConsistOf("Added a", "Modified a"))

	// A second trigger of the kind gets only later changes, and the first gets none twice.
	r.Put("second", podWorkflow("Pod"))
	first.ready(r, "second", "pods")
	create("b")
	r.G.Eventually(changes("second"), enginetest.Long).Should(ConsistOf("Added b"))

	// No replica runs for a while.
	one.stop()
	two.stop()
	create("c")
	remove("b")
	three := follow(r, &bound{}, nil)
	r.G.Eventually(changes("second"), enginetest.Long).Should(ConsistOf("Added b", "Added c", "Deleted b"))
	r.G.Eventually(changes("watcher"), enginetest.Long).Should(ConsistOf("Added a", "Modified a", "Added b", "Added c", "Deleted b"))
	three.ready(r, "watcher", "pods")

	// Changes while a Workflow is suspended start no runs, also not afterwards.
	var spec map[string]any
	r.G.Expect(json.Unmarshal([]byte(podWorkflow("Pod")), &spec)).To(Succeed())
	spec["suspend"] = true
	suspended, err := json.Marshal(spec)
	r.G.Expect(err).NotTo(HaveOccurred())
	r.Put("watcher", string(suspended))
	three.notReady(r, "watcher", "pods", "spec.suspend is set")
	create("d")
	r.G.Eventually(changes("second"), enginetest.Long).Should(ContainElement("Added d"))
	r.Put("watcher", podWorkflow("Pod"))
	three.ready(r, "watcher", "pods")
	create("e")
	r.G.Eventually(changes("watcher"), enginetest.Long).Should(ContainElement("Added e"))
	r.G.Expect(changes("watcher")()).NotTo(ContainElement("Added d"))

	// After the position has expired, changes are found from the existing objects, except deletions.
	three.stop()
	create("f")
	k := &kindWatch{watches: three.watches, kind: "Pod", restart: make(chan struct{}, 1), triggers: three.watches.ofKind("Pod")}
	r.G.Expect(k.begin(t.Context())).To(Succeed())
	r.G.Expect(k.catchUp(t.Context())).To(Succeed())
	r.G.Expect(changes("second")()).To(ContainElement("Added f"))
	r.G.Expect(k.save(t.Context())).To(Succeed())
	before := len(changes("second")())
	four := follow(r, &bound{}, nil)
	four.ready(r, "second", "pods")
	create("g")
	r.G.Eventually(changes("second"), enginetest.Long).Should(ContainElement("Added g"))
	r.G.Expect(changes("second")()).To(HaveLen(before+1), "no change should start two runs")
}
