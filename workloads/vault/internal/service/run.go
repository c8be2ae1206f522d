// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"sync/atomic"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	vaultv1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/product"
	vaultconfig "github.com/itechsmart/operator/workloads/vault/config"
	"github.com/itechsmart/operator/workloads/vault/internal/store"
)

// refreshEvery is how soon a replica loads a root key that another one created.
const refreshEvery = 5 * time.Second

// Product returns Vault as a product of the kit. Each process needs a value of its own.
func Product() product.Product {
	var settings vaultconfig.Settings
	return product.Product{
		Name: productName, Title: "Vault", Migrations: store.Migrations,
		AddToScheme: vaultv1.AddToScheme, Kinds: []client.Object{&vaultv1.Secret{}, &vaultv1.AccessPolicy{}},
		Configure: func(c *config.Service) (unknown []string, err error) {
			settings, unknown, err = config.Settings[vaultconfig.Settings](c)
			return unknown, err
		},
		LargeBodies: func() map[string]int64 { return largeBodies(settings.MaxFileBytes) },
		Assemble: func(life context.Context, parts *product.Parts) (product.Service, error) {
			return assemble(life, parts, settings)
		},
	}
}

// startup is the state of one start.
type startup struct {
	*product.Parts
	settings vaultconfig.Settings
	sealed   atomic.Pointer[string] // the reason; nil: it is not
}

func assemble(life context.Context, parts *product.Parts, settings vaultconfig.Settings) (product.Service, error) {
	p := &startup{Parts: parts, settings: settings}
	vault := store.New(p.Pool, store.Options{Namespace: p.Config.Namespace, MaxFileBytes: p.settings.MaxFileBytes})
	passphrase := p.passphrase(vault)
	if err := p.unseal(life, vault, passphrase); err != nil {
		return nil, err
	}
	p.Closer(vault.Seal)
	resources := NewResources(p.Resources, p.Config.Platform, p.Log)
	s := New(life, Options{
		Namespace: p.Config.Namespace, Store: vault, Cursors: p.Cursors, Log: p.Log, Resources: resources,
		Trail:      p.Trail(answer),
		Passphrase: passphrase, Shares: p.settings.Shares, Threshold: p.settings.Threshold, WhySealed: p.whySealed,
	})
	go s.followKeys(life)
	go func() {
		if err := resources.Run(life); err != nil && life.Err() == nil {
			p.Log.Error("the resources are no longer watched", "error", err)
		}
	}()
	go func() {
		if !resources.WaitSeen(life) {
			return
		}
		if err := resources.catchUp(life, vault); err != nil && life.Err() == nil {
			p.Log.Warn("resources may not record the newest versions from before this start", "error", err)
		}
	}()
	return s, p.AwaitResources(life, resources.WaitSeen, "only administrators have access until the policies are read")
}
