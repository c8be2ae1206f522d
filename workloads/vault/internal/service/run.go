// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"sigs.k8s.io/controller-runtime/pkg/client"

	vaultv1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	"github.com/itechsmart/operator/internal/backend"
	redisbackend "github.com/itechsmart/operator/internal/backend/redis"
	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/auditlog"
	"github.com/itechsmart/operator/workloads/internal/product"
	"github.com/itechsmart/operator/workloads/vault/internal/store"
)

const (
	// refreshEvery is how soon a replica learns of a root key that another one made.
	refreshEvery = 5 * time.Second
	// syncGrace is how long a start waits for the API server before it serves without its resources.
	syncGrace = 10 * time.Second
)

// Product is Vault on the kit.
func Product() product.Product {
	return product.Product{
		Name: productName, Title: "Vault", Migrations: store.Migrations,
		AddToScheme: vaultv1.AddToScheme, Kinds: []client.Object{&vaultv1.Secret{}, &vaultv1.AccessPolicy{}},
		LargeBodies: func(c *config.Service) map[string]int64 { return largeBodies(settings(c).MaxFileBytes) },
		OpenRedis: func(binding map[string]string) (*redis.Client, error) {
			return redisbackend.Open(backend.ParseBinding(binding))
		},
		Assemble: assemble,
	}
}

// settings are Vault's part of the configuration.
func settings(c *config.Service) config.Vault {
	if c.Vault == nil {
		return config.Vault{}
	}
	return *c.Vault
}

// beginning is what one start knows of.
type beginning struct {
	*product.Parts
	settings config.Vault
	sealed   atomic.Pointer[string] // why; nil: it is not
}

func assemble(life context.Context, parts *product.Parts) (product.Service, error) {
	p := &beginning{Parts: parts, settings: settings(parts.Config)}
	vault := store.New(p.Pool, store.Options{Namespace: p.Config.Namespace, MaxFileBytes: p.settings.MaxFileBytes})
	passphrase := p.passphrase(vault)
	if err := p.unseal(life, vault, passphrase); err != nil {
		return nil, err
	}
	p.Closer(vault.Seal)
	resources := NewResources(p.Resources, p.Config.Platform, p.Log)
	s := New(life, Options{
		Namespace: p.Config.Namespace, Store: vault, Cursors: p.Cursors, Log: p.Log, Resources: resources,
		Trail: &auditlog.Trail{
			Product: productName, Namespace: p.Config.Namespace, Log: p.Audit, Cursors: p.Cursors, Logger: p.Log, Answer: answer,
		},
		Passphrase: passphrase, Shares: p.settings.Shares, Threshold: p.settings.Threshold, WhySealed: p.whySealed,
	})
	go s.followKeys(life)
	go func() {
		if !resources.waitSeen(life) {
			return
		}
		if err := resources.catchUp(life, vault); err != nil && life.Err() == nil {
			p.Log.Warn("versions of before may not be noted on their resources", "error", err)
		}
	}()
	return s, p.follow(life, resources)
}

// follow starts the watch, and gives it a moment before requests come.
func (p *beginning) follow(life context.Context, resources *Resources) error {
	go func() {
		if err := resources.Run(life); err != nil && life.Err() == nil {
			p.Log.Error("the resources are no longer followed", "error", err)
		}
	}()
	limited, cancel := context.WithTimeout(life, syncGrace)
	defer cancel()
	if !resources.waitSeen(limited) {
		p.Log.Warn("the API server does not answer: until it does, only administrators are let in, for nobody knows the policies")
	}
	return life.Err()
}
