// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/workload"
	"github.com/itechsmart/operator/workloads/config"
)

// render makes the children from the configuration.
func (p *pass) render(ctx context.Context, platform *platformv1alpha1.Platform, servers *servers, c *config.Service, workerDatabase config.Database) (*children, error) {
	in := &input{
		kind: p.kind, owner: owned{kind: p.gvk.Kind, name: p.service.GetName(), platform: platform.Name},
		platform: platform, spec: p.spec, servers: servers, options: p.deps.Options, signingKeys: keyIDs(c.Auth.Keys),
	}
	var err error
	if in.file, err = p.serviceFile(ctx, platform.Name, c); err != nil {
		return nil, err
	}
	if w := p.kind.Worker; w != nil {
		in.worker = w.Spec(p.service)
		if in.workerFile, err = p.workerFile(platform, c, workerDatabase); err != nil {
			return nil, err
		}
	}
	return render(in), nil
}

// serviceFile returns the service's configuration. Its hash leaves out the generation and the sizes of the pools: an edit that is none
// of the service's business, and one more replica, restart nothing.
func (p *pass) serviceFile(ctx context.Context, platform string, c *config.Service) (configFile, error) {
	hashed := *c
	hashed.Database, hashed.Identity = unsized(c.Database), unsized(c.Identity)
	file := configFile{hash: workload.Checksum(hashed)}
	known, err := p.readConfig(ctx, configPrefix(platform, p.kind.Product)+file.hash)
	if err != nil {
		return file, err
	}
	c.Generation = p.service.GetGeneration()
	if known != nil {
		c.Generation = known.Generation
	}
	file.data, err = json.MarshalIndent(c, "", "  ")
	if err != nil {
		return file, fmt.Errorf("render configuration: %w", err)
	}
	return file, nil
}

// workerFile returns the configuration of the service's worker.
func (p *pass) workerFile(platform *platformv1alpha1.Platform, c *config.Service, database config.Database) (configFile, error) {
	request := &Request{Service: p.service, Platform: platform, pass: p}
	shared := WorkerShared{Database: unsized(database), Queue: c.Queue, Objects: c.Objects}
	if p.deps.Options.AllowPrivateAddresses {
		shared.PrivateCIDRs = []string{"0.0.0.0/0", "::/0"} // the worker refuses link-local addresses all the same
	}
	file := configFile{hash: workload.Checksum(p.kind.Worker.Configure(request, shared))}
	shared.Database = database
	var err error
	file.data, err = json.MarshalIndent(p.kind.Worker.Configure(request, shared), "", "  ")
	if err != nil {
		return file, fmt.Errorf("render configuration of the workers: %w", err)
	}
	return file, nil
}

// unsized returns a database without the sizes of its pool.
func unsized(d config.Database) config.Database {
	d.MinConnections, d.MaxConnections = 0, 0
	return d
}

func keyIDs(keys []config.Key) string {
	ids := make([]string, 0, len(keys))
	for _, key := range keys {
		ids = append(ids, key.ID)
	}
	return strings.Join(ids, ",")
}
