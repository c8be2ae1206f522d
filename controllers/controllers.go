// SPDX-License-Identifier: Apache-2.0

// Package controllers lists all products, and sets up their controllers in the manager.
package controllers

import (
	"fmt"

	ctrl "sigs.k8s.io/controller-runtime"

	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"

	"github.com/itechsmart/operator/controllers/dataflow"
	"github.com/itechsmart/operator/controllers/internal/admission"
	"github.com/itechsmart/operator/controllers/internal/product"
	"github.com/itechsmart/operator/controllers/internal/service"
	"github.com/itechsmart/operator/controllers/internal/setup"
	"github.com/itechsmart/operator/controllers/internal/validation"
	"github.com/itechsmart/operator/controllers/platform"
	"github.com/itechsmart/operator/controllers/vault"
	"github.com/itechsmart/operator/controllers/workflow"
)

// Options are the flags of the manager that controllers need.
type Options = setup.Options

// WebhookOptions configure the validating webhooks.
type WebhookOptions = admission.Options

// NewWebhooks returns the server of the webhooks, for Options.
var NewWebhooks = admission.New

// CacheOptions limits the manager's cache to what controllers need.
var CacheOptions = setup.CacheOptions

// Products lists all products. A new product adds its value.
var Products = []product.Product{
	platform.Product,
	dataflow.Product,
	vault.Product,
	workflow.Product,
}

// Programs returns the programs whose images the manager runs, in the order of the list.
func Programs() []string {
	var out []string
	for i := range Products {
		out = append(out, Products[i].Programs()...)
	}
	return out
}

// AddToScheme registers every kind that controllers use.
func AddToScheme(scheme *runtime.Scheme) error {
	add := []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, gatewayv1beta1.Install}
	for i := range Products {
		add = append(add, Products[i].AddToScheme)
	}
	for _, register := range add {
		if err := register(scheme); err != nil {
			return fmt.Errorf("scheme: %w", err)
		}
	}
	return nil
}

// Kinds returns every kind of every product.
func Kinds() []validation.Kind {
	var out []validation.Kind
	for i := range Products {
		out = append(out, Products[i].Validated()...)
	}
	return out
}

// WebhookPath is where the webhook of a kind is served.
var WebhookPath = admission.Path

// Setup adds every controller and webhook to the manager.
func Setup(mgr ctrl.Manager, options Options) error {
	deps, err := setup.New(mgr, options)
	if err != nil {
		return err
	}
	for i := range Products {
		if s := Products[i].Service; s != nil {
			deps.Services = append(deps.Services, s.Listed())
		}
	}
	if options.Webhooks != nil {
		if err := serveWebhooks(deps); err != nil {
			return err
		}
	}
	for i := range Products {
		p := &Products[i]
		if p.Setup != nil {
			if err := p.Setup(deps); err != nil {
				return err
			}
		}
		if p.Service != nil {
			if err := service.Setup(deps, p.Service); err != nil {
				return err
			}
		}
	}
	return nil
}

// serveWebhooks adds the webhook of each kind that has a check.
func serveWebhooks(d *setup.Deps) error {
	for _, kind := range Kinds() {
		if kind.Check == nil {
			continue
		}
		if err := admission.Validate(d.Manager, kind); err != nil {
			return err
		}
	}
	return nil
}
