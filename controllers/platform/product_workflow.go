// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"

	rbacv1 "k8s.io/api/rbac/v1"

	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/workloads/config"
	workerconfig "github.com/itechsmart/operator/workloads/workflow/worker/config"
)

var workflowProduct = &productType{
	name: v1alpha1.ProductWorkflow, title: "Workflow",
	pick: func(p *v1alpha1.Products) *v1alpha1.ProductSpec {
		if p.Workflow == nil {
			return nil
		}
		return &p.Workflow.ProductSpec
	},
	image:  "docker.io/itechsmart/workflow:dev",
	sizing: sizing{cpu: "100m", memory: "128Mi", memoryLimit: "512Mi"},
	rules: []rbacv1.PolicyRule{
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
	configure: configureWorkflow,
	queue:     workflowQueue,
	objects:   true,
	worker: &workerType{
		name: "workflow-worker", image: "docker.io/itechsmart/workflow-worker:dev",
		sizing: sizing{cpu: "100m", memory: "128Mi", memoryLimit: "512Mi"}, grace: 30,
		file: workerconfig.FileName, dir: workerconfig.Dir,
		pick: func(p *v1alpha1.Products) workerSpec {
			w := &p.Workflow.Worker
			return workerSpec{replicas: w.Replicas, image: w.Image, resources: w.Resources}
		},
		tell: workflowWorker,
	},
	bindingsDir: workerconfig.BindingsDir,
	calls:       true,
}

// workflowQueue is the name of a Platform's queue of tasks. A namespace has no dots, so no two Platforms of a cluster share one.
func workflowQueue(p *v1alpha1.Platform) string {
	return "workflow." + p.Namespace + "." + p.Name + ".tasks"
}

func configureWorkflow(_ context.Context, r *productRun) (func(*config.Service), error) {
	told := &config.Workflow{
		Queue: r.taskBroker(), QueueName: workflowQueue(r.platform),
		Objects: r.objectStore(), MaxOutputBytes: int(r.platform.Spec.Products.Workflow.MaxOutputBytes), URL: r.platform.ProductURL(v1alpha1.ProductWorkflow),
	}
	return func(c *config.Service) { c.Workflow = told }, nil
}

func workflowWorker(r *productRun, database config.Database) any {
	spec := r.platform.Spec.Products.Workflow
	told := &workerconfig.Worker{
		Platform: r.platform.Name, Namespace: r.platform.Namespace, Database: database,
		Queue: r.taskBroker(), QueueName: workflowQueue(r.platform),
		Objects: r.objectStore(), Slots: int(spec.Worker.Slots), MaxOutputBytes: int(spec.MaxOutputBytes), LogLevel: spec.LogLevel,
	}
	if r.defaults.allowPrivate {
		told.PrivateCIDRs = []string{"0.0.0.0/0", "::/0"} // the worker refuses link-local addresses all the same
	}
	return told
}
