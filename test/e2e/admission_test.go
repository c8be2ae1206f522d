// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	dataflowv1alpha1 "github.com/itechsmart/operator/api/dataflow/v1alpha1"
)

// TestInvalidIsRejected: the installed webhooks reject what can never work, with every field at fault, and nothing is created.
func TestInvalidIsRejected(t *testing.T) {
	c := connect(t)
	p := &dataflowv1alpha1.Pipeline{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "invalid"},
		Spec: dataflowv1alpha1.PipelineSpec{
			Sources:    []dataflowv1alpha1.Source{{Name: "in", Type: "kafak", Config: raw(`{"topic": "a"}`)}},
			Transforms: []dataflowv1alpha1.Transform{{Name: "some", Type: "filter", When: "this.a =="}},
			Sinks:      []dataflowv1alpha1.Sink{{Name: "out", Type: "drop"}},
		},
	}
	err := c.client.Create(c.ctx, p)
	c.Expect(apierrors.IsInvalid(err)).To(BeTrue(), "%v", err)
	c.Expect(err.Error()).To(ContainSubstring(`spec.sources[0].type: Invalid value: there is no source "kafak"; did you mean "kafka"?`))
	c.Expect(err.Error()).To(ContainSubstring(`spec.transforms[0].when: Invalid value: 1:10: the expression is incomplete`))
	c.Expect(apierrors.IsNotFound(c.client.Get(c.ctx, client.ObjectKeyFromObject(p), p))).To(BeTrue())
}
