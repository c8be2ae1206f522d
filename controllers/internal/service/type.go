// SPDX-License-Identifier: Apache-2.0

// Package service is the one reconciler of product services: schema and role, configuration, Deployment, network,
// monitoring, queue, worker, rollout and retirement. A product supplies a Type.
package service

import (
	"context"

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/setup"
	"github.com/itechsmart/operator/controllers/internal/workload"
	"github.com/itechsmart/operator/workloads/config"
)

// Object is a resource of a service kind.
type Object interface {
	reconcile.Object
	common.ServiceObject
}

// Type is all that the reconciler knows of one product's service.
type Type struct {
	// Product is its name, in labels, in names and of its image; Kind that of the resource; Title is for messages.
	Product, Kind, Title string
	// New makes an empty resource of the service kind, NewList an empty list of them.
	New     func() Object
	NewList func() client.ObjectList
	// Sizing is the container's default resources.
	Sizing workload.Sizing
	// Rules are the only permissions the service has in its namespace; a ClusterRole holds them, which the operator binds.
	Rules []rbacv1.PolicyRule
	// References names the Secrets of its namespace that a resource refers to; may be nil.
	References func(Object) []string
	// Configure returns the product's own part of the configuration; nil: it has none. It runs before the database is
	// prepared, so that it can tell a first start from a later one.
	Configure func(context.Context, *Request) (any, error)
	// Retained names the Secrets that Configure makes once on a Platform; may be nil.
	Retained func(platform string) []string
	// Queue says that the product needs RabbitMQ, with a queue of tasks of its own.
	Queue bool
	// Objects says that the product keeps what is large in object storage, where the Platform has it.
	Objects bool
	// BindingsDir is where service and worker have the Secret common.BindingsName, which another controller writes and which
	// changes while they run; empty: there is none.
	BindingsDir string
	// OpenEgress says that the service connects to servers that its tenants name.
	OpenEgress bool
	// Worker runs beside the service; nil: none does.
	Worker *Worker
}

// Worker runs beside a product's service. It is no client of Kubernetes: it reads one file, and answers for its
// health and its metrics where a service does.
type Worker struct {
	// Name in labels, in names and of its image.
	Name string
	// Sizing is the container's default resources.
	Sizing workload.Sizing
	// Grace is the termination grace period, in seconds.
	Grace int64
	// File in Dir is its configuration.
	File, Dir string
	// Spec returns the worker's part of a specification.
	Spec func(Object) *common.WorkerSpec
	// Configure returns the content of its file.
	Configure func(*Request, WorkerShared) any
}

// WorkerShared has what a worker shares with its service.
type WorkerShared struct {
	Database config.Database
	Queue    *config.Queue
	Objects  map[string]string
	// PrivateCIDRs are private addresses that a tenant may name.
	PrivateCIDRs []string
}

// Components returns the service and its worker, as labels, names and images have them.
func (t *Type) Components() []string {
	if t.Worker == nil {
		return []string{t.Product}
	}
	return []string{t.Product, t.Worker.Name}
}

// Listed returns the kind as other controllers know it.
func (t *Type) Listed() setup.ServiceKind {
	return setup.ServiceKind{Product: t.Product, Kind: t.Kind, New: func() client.Object { return t.New() }, NewList: t.NewList}
}
