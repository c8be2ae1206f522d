// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	workflowv1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

// The older of two Workflows gets their common webhook path; if both were created in the same second, the one with the smaller
// UID. The controller decides the same way, whatever their names and order.
func TestOlderWorkflowHasThePath(t *testing.T) {
	now := metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	entry := func(name, uid string, created metav1.Time) *Entry {
		return &Entry{Program: &definition.Program{}, Workflow: &workflowv1.Workflow{
			ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(uid), CreationTimestamp: created},
			Spec: workflowv1.WorkflowSpec{Triggers: []workflowv1.Trigger{
				{Name: "t", Type: workflowv1.TriggerWebhook, Webhook: &workflowv1.WebhookTrigger{Path: "orders"}},
			}},
		}}
	}
	later := metav1.NewTime(now.Add(time.Second))
	for name, c := range map[string]struct{ winner, loser *Entry }{
		"older":           {entry("b", "2", now), entry("a", "1", later)},
		"the same second": {entry("b", "1", now), entry("a", "2", now)},
	} {
		for _, order := range [][]*Entry{{c.winner, c.loser}, {c.loser, c.winner}} {
			s := &snapshot{hooks: map[string]hook{}}
			for _, one := range order {
				s.hook(one)
			}
			if got := s.hooks["orders"].entry; got != c.winner {
				t.Errorf("%s: %s got the path", name, got.Workflow.Name)
			}
		}
	}
}
