// SPDX-License-Identifier: Apache-2.0

// Package product describes a product to the manager. controllers.Products lists all of them.
package product

import (
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/itechsmart/operator/controllers/internal/service"
	"github.com/itechsmart/operator/controllers/internal/setup"
	"github.com/itechsmart/operator/controllers/internal/validation"
)

// Product is all that the manager knows of one product.
type Product struct {
	// Name is the first part of its API group.
	Name string
	// AddToScheme registers its kinds.
	AddToScheme func(*runtime.Scheme) error
	// Setup adds the controllers of its other kinds to the manager; nil: it has none.
	Setup func(*setup.Deps) error
	// Service is its service; nil: it has none.
	Service *service.Type
	// Kinds are its other kinds, each with its check.
	Kinds []validation.Kind
	// Workers are the programs that its controllers run beside the service and the service's own worker.
	Workers []string
}

// Validated returns all its kinds.
func (p *Product) Validated() []validation.Kind {
	if p.Service == nil {
		return p.Kinds
	}
	return append([]validation.Kind{p.Service.Validated()}, p.Kinds...)
}

// Programs returns the programs whose images the product's controllers run.
func (p *Product) Programs() []string {
	if p.Service == nil {
		return p.Workers
	}
	return append(p.Service.Components(), p.Workers...)
}
