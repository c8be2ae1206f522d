// SPDX-License-Identifier: Apache-2.0

// Package service is Greeter's REST API.
package service

import (
	"context"
	"embed"
	"io/fs"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"

	greeterv1 "github.com/itechsmart/operator/api/greeter/v1alpha1"
	"github.com/itechsmart/operator/workloads/config"
	greeterconfig "github.com/itechsmart/operator/workloads/greeter/config"
	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/internal/product"
)

//go:embed migrations
var files embed.FS

// Product is Greeter on the kit.
func Product() product.Product {
	var settings greeterconfig.Settings
	migrations, err := fs.Sub(files, "migrations")
	if err != nil {
		panic(err) // the folder is embedded
	}
	return product.Product{
		Name: greeterv1.Product, Title: "Greeter", Migrations: migrations, AddToScheme: greeterv1.AddToScheme,
		Configure: func(c *config.Service) (unknown []string, err error) {
			settings, unknown, err = config.Settings[greeterconfig.Settings](c)
			return unknown, err
		},
		Assemble: func(context.Context, *product.Parts) (product.Service, error) {
			return &greeter{
				settings: settings,
				greeted:  prometheus.NewCounter(prometheus.CounterOpts{Name: "itechsmart_greeter_greetings_total", Help: "Greetings sent."}),
			}, nil
		},
	}
}

type greeter struct {
	settings greeterconfig.Settings
	greeted  prometheus.Counter
}

// Register implements product.Service.
func (g *greeter) Register(rest huma.API) {
	op := api.Public(api.Operation(greeterv1.Product, "greet", http.MethodGet, "/greeting", "Greet"))
	huma.Register(rest, op, func(context.Context, *struct{}) (*struct{ Body string }, error) {
		g.greeted.Inc()
		return &struct{ Body string }{g.settings.Greeting}, nil
	})
}

// Collector implements product.Service.
func (g *greeter) Collector() prometheus.Collector { return g.greeted }
