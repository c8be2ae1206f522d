// SPDX-License-Identifier: Apache-2.0

// Package greeter is the Greeter product: its service, and no other kind.
package greeter

import (
	"context"

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	greeterv1alpha1 "github.com/itechsmart/operator/api/greeter/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/product"
	"github.com/itechsmart/operator/controllers/internal/service"
	"github.com/itechsmart/operator/controllers/internal/workload"
	"github.com/itechsmart/operator/workloads/greeter/config"
)

// +kubebuilder:rbac:groups=greeter.itechsmart.dev,resources=greeterservices,verbs=get;list;watch;patch;update
// +kubebuilder:rbac:groups=greeter.itechsmart.dev,resources=greeterservices/status,verbs=patch
// +kubebuilder:rbac:groups=greeter.itechsmart.dev,resources=greeterservices/finalizers,verbs=update

// Product is Greeter in the list of products.
var Product = product.Product{
	Name: greeterv1alpha1.Product, AddToScheme: greeterv1alpha1.AddToScheme,
	Service: &service.Type{
		Product: greeterv1alpha1.Product, Kind: "GreeterService", Title: "Greeter",
		New:     func() service.Object { return &greeterv1alpha1.GreeterService{} },
		NewList: func() client.ObjectList { return &greeterv1alpha1.GreeterServiceList{} },
		Sizing:  workload.Sizing{CPU: "50m", Memory: "64Mi", MemoryLimit: "128Mi"},
		Rules: []rbacv1.PolicyRule{{
			APIGroups: []string{"greeter.itechsmart.dev"}, Resources: []string{"greeterservices"}, Verbs: []string{"get", "list", "watch"},
		}},
		Configure: func(_ context.Context, r *service.Request) (any, error) {
			return &config.Settings{Greeting: r.Service.(*greeterv1alpha1.GreeterService).Spec.Greeting}, nil
		},
	},
}
