// SPDX-License-Identifier: Apache-2.0

package dataflow

import (
	"context"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	dataflowv1alpha1 "github.com/itechsmart/operator/api/dataflow/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
)

// externalKeys returns the index values by which Pipelines that name the same external object find each other. They leave
// out the server, which an index cannot resolve; compare checks it.
func externalKeys(p *dataflowv1alpha1.Pipeline) []string {
	seen := map[string]bool{}
	var out []string
	for _, c := range components(p) {
		read, ok := readers[c.typ]
		if !ok {
			continue
		}
		found, invalid := read(c)
		if len(invalid) > 0 {
			continue // the Pipeline's own pass reports it
		}
		for _, d := range found {
			key := externalKey(d)
			if !seen[key] {
				seen[key] = true
				out = append(out, key)
			}
		}
	}
	return out
}

func externalKey(d declaration) string { return d.kind + "|" + normalName(d.kind, d.name) }

// conflicts refuses what an older Pipeline declares differently.
func (p *pass) conflicts(ctx context.Context) error {
	declared, err := declarations(p.pipeline, p.only)
	if err != nil {
		return err
	}
	p.declared = declared
	for _, d := range declared {
		var others dataflowv1alpha1.PipelineList
		if err := p.c.Client.List(ctx, &others, client.MatchingFields{indexExternal: externalKey(d)}); err != nil {
			return fmt.Errorf("list Pipelines that name %s %q: %w", d.kind, d.name, err)
		}
		for i := range others.Items {
			other := &others.Items[i]
			if !common.Older(other, p.pipeline) || !other.DeletionTimestamp.IsZero() {
				continue
			}
			if err := p.compare(ctx, d, other); err != nil {
				return err
			}
		}
	}
	return nil
}

// compare looks for the same object in an older Pipeline.
func (p *pass) compare(ctx context.Context, mine declaration, other *dataflowv1alpha1.Pipeline) error {
	only, err := onlyPlatform(ctx, p.c.Client, other.Namespace)
	if err != nil {
		return err
	}
	theirs, err := declarations(other, only)
	if err != nil {
		return nil // the other has no valid claim
	}
	for _, d := range theirs {
		if externalKey(d) != externalKey(mine) || d.target != mine.target {
			continue
		}
		if d.name != mine.name {
			return reconcile.Stall(common.ReasonConflict, "%s: %s %q collides with %q of the older Pipeline %s/%s: Kafka's metrics take '.' and '_' for the same; choose another name",
				mine.path, mine.kind, mine.name, d.name, other.Namespace, other.Name)
		}
		if d.shape.declared() && mine.shape.declared() && !d.shape.same(mine.shape) {
			return reconcile.Stall(common.ReasonConflict, "%s: %s %q is declared differently by the older Pipeline %s/%s; make both the same, or use another name",
				mine.path, mine.kind, mine.name, other.Namespace, other.Name)
		}
	}
	return nil
}
