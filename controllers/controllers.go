// SPDX-License-Identifier: Apache-2.0

// Package controllers is the one list of all controllers.
package controllers

import (
	"fmt"

	ctrl "sigs.k8s.io/controller-runtime"

	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"

	dataflowv1alpha1 "github.com/itechsmart/operator/api/dataflow/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	vaultv1alpha1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	workflowv1alpha1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/controllers/dataflow"
	"github.com/itechsmart/operator/controllers/internal/admission"
	"github.com/itechsmart/operator/controllers/internal/setup"
	"github.com/itechsmart/operator/controllers/platform"
	"github.com/itechsmart/operator/controllers/vault"
	"github.com/itechsmart/operator/controllers/workflow"
)

// Options are the manager's flags that controllers need.
type Options = setup.Options

// Webhooks are what answers the API server before it takes a resource; Options hold them.
type Webhooks = admission.Options

// NewWebhooks prepares them.
var NewWebhooks = admission.New

// CacheOptions makes the manager's cache hold no more than controllers need.
var CacheOptions = setup.CacheOptions

// sets is the list: a product adds one line.
var sets = []func(*setup.Deps) error{
	platform.Setup,
	dataflow.Setup,
	vault.Setup,
	workflow.Setup,
}

// AddToScheme registers every kind that controllers use.
func AddToScheme(scheme *runtime.Scheme) error {
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, gatewayv1beta1.Install,
		platformv1alpha1.AddToScheme, dataflowv1alpha1.AddToScheme, vaultv1alpha1.AddToScheme, workflowv1alpha1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return fmt.Errorf("scheme: %w", err)
		}
	}
	return nil
}

// Setup adds every controller to the manager.
func Setup(mgr ctrl.Manager, options Options) error {
	deps, err := setup.New(mgr, options)
	if err != nil {
		return err
	}
	for _, set := range sets {
		if err := set(deps); err != nil {
			return err
		}
	}
	return nil
}
