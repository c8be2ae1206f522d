// SPDX-License-Identifier: Apache-2.0

package workflow

import (
	"context"

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	workflowv1alpha1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/product"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/service"
	"github.com/itechsmart/operator/controllers/internal/validation"
	"github.com/itechsmart/operator/controllers/internal/workload"
	serviceconfig "github.com/itechsmart/operator/workloads/workflow/config"
	"github.com/itechsmart/operator/workloads/workflow/worker/config"
)

// +kubebuilder:rbac:groups=workflow.itechsmart.dev,resources=workflowservices,verbs=get;list;watch;patch;update
// +kubebuilder:rbac:groups=workflow.itechsmart.dev,resources=workflowservices/status,verbs=patch
// +kubebuilder:rbac:groups=workflow.itechsmart.dev,resources=workflowservices/finalizers,verbs=update

// Product is Workflow in the list of products.
var Product = product.Product{
	Name: workflowv1alpha1.Product, AddToScheme: workflowv1alpha1.AddToScheme, Setup: Setup, Service: serviceType,
	Kinds: []validation.Kind{validation.For(&workflowv1alpha1.Workflow{}, validate), {Like: &workflowv1alpha1.WorkflowRun{}}},
}

// largestInDatabase is the largest output that the database takes, in bytes; what is larger goes to object storage.
const largestInDatabase = 8 << 20

// serviceType is the Workflow service with the workers of its steps.
var serviceType = &service.Type{
	Product: workflowv1alpha1.Product, Kind: "WorkflowService", Title: "Workflow",
	New:     func() service.Object { return &workflowv1alpha1.WorkflowService{} },
	NewList: func() client.ObjectList { return &workflowv1alpha1.WorkflowServiceList{} },
	Sizing:  workload.Sizing{CPU: "100m", Memory: "128Mi", MemoryLimit: "512Mi"},
	Rules: []rbacv1.PolicyRule{
		{
			APIGroups: []string{"workflow.itechsmart.dev"}, Resources: []string{"workflowruns", "workflowruns/status", "workflows", "workflows/status"},
			Verbs: []string{"create", "delete", "get", "list", "patch", "update", "watch"},
		},
		// What steps start and wait for, and what events come from.
		{APIGroups: []string{"dataflow.itechsmart.dev"}, Resources: []string{"pipelines"}, Verbs: []string{"get", "list", "patch", "watch"}},
		{APIGroups: []string{"batch"}, Resources: []string{"jobs"}, Verbs: []string{"create", "delete", "get", "list", "watch"}},
		{APIGroups: []string{""}, Resources: []string{"events", "pods", "pods/log"}, Verbs: []string{"get", "list", "watch"}},
		{APIGroups: []string{"apps"}, Resources: []string{"deployments", "statefulsets"}, Verbs: []string{"get", "list", "watch"}},
	},
	Configure:   configure,
	Queue:       true,
	Objects:     true,
	BindingsDir: config.BindingsDir,
	OpenEgress:  true,
	Worker: &service.Worker{
		Name: workflowv1alpha1.Product + "-worker", Sizing: workload.Sizing{CPU: "100m", Memory: "128Mi", MemoryLimit: "512Mi"}, Grace: 30,
		File: config.FileName, Dir: config.Dir,
		Spec: func(o service.Object) *common.WorkerSpec {
			return &o.(*workflowv1alpha1.WorkflowService).Spec.Worker.WorkerSpec
		},
		Configure: configureWorker,
	},
}

func configure(_ context.Context, r *service.Request) (any, error) {
	spec := &r.Service.(*workflowv1alpha1.WorkflowService).Spec
	if spec.MaxOutputBytes > largestInDatabase && !r.Platform.Spec.Backends.Has(platformv1alpha1.BackendObjectStorage) {
		return nil, reconcile.Stall(common.ReasonInvalidSpec,
			"spec.maxOutputBytes: above %d (8 MiB) outputs are kept in object storage; add spec.backends.objectStorage to Platform %s, or ask for less",
			largestInDatabase, r.Platform.Name)
	}
	return &serviceconfig.Settings{MaxOutputBytes: int(spec.MaxOutputBytes)}, nil
}

func configureWorker(r *service.Request, shared service.WorkerShared) any {
	spec := &r.Service.(*workflowv1alpha1.WorkflowService).Spec
	return &config.Worker{
		Platform: r.Platform.Name, Namespace: r.Platform.Namespace, Database: shared.Database,
		Queue: shared.Queue.Binding, QueueName: shared.Queue.Name, Objects: shared.Objects, PrivateCIDRs: shared.PrivateCIDRs,
		Slots: int(spec.Worker.Slots), MaxOutputBytes: int(spec.MaxOutputBytes), LogLevel: spec.LogLevel,
	}
}
