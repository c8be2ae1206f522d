// SPDX-License-Identifier: Apache-2.0

package workflow

import (
	common "github.com/itechsmart/operator/api/common/v1alpha1"
	workflowv1alpha1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/service"
)

const (
	// ownerKind is the kind of Workflows in ReferenceGrants.
	ownerKind = "Workflow"
	// annotationBindings has, on a Pod, the version of the bindings that it was last woken for.
	annotationBindings = "workflow.itechsmart.dev/bindings-version"
	// indexWebhook indexes Workflows by the paths of their webhooks: "namespace/path".
	indexWebhook = "spec.triggers.webhook.path"
	// indexWorkflow indexes WorkflowRuns by their Workflow: "namespace/name".
	indexWorkflow = "spec.workflowRef"
)

// bindingsLabels returns the labels of the Secret with a service's bindings.
func bindingsLabels(owner service.Object) map[string]string {
	platform := owner.ServiceSpec().PlatformRef.Name
	return map[string]string{
		"app.kubernetes.io/name": workflowv1alpha1.Product, "app.kubernetes.io/instance": platform,
		"app.kubernetes.io/part-of": "itechsmart", common.LabelComponent: "workflow-bindings",
		common.LabelOwnerKind: serviceType.Kind, common.LabelOwnerName: owner.GetName(), common.LabelPlatform: platform,
	}
}
