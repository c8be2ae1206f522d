// SPDX-License-Identifier: Apache-2.0

package service

import (
	common "github.com/itechsmart/operator/api/common/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
)

const (
	// connectionsPerPod is a Pod's pool where the server's limit is not the operator's to keep.
	connectionsPerPod = 25
	// leastPerPod is the smallest that works: two connections for identities, two for the service.
	leastPerPod = 4
	// shares is in how many parts the connections of a managed server are divided: one per service and per worker, with room
	// for ten services and six workers. It is fixed, so that no product changes the share of another.
	shares = 16
	// othersConnections of a managed server are left to Pipelines, to the operator and to people; reservedConnections are
	// PostgreSQL's for superusers.
	othersConnections, reservedConnections = 20, 3
)

// pools are the sizes of a Pod's pools, and how many connections all Pods of a component may have as the product's role; total
// 0: no limit.
type pools struct {
	own, identity, total int32
}

// podsAtOnce returns how many Pods of a component may have connections during a rollout: the replicas, those that a rolling
// update adds before it takes one away, and one that is ending.
func podsAtOnce(replicas int32) int32 { return replicas + (replicas+3)/4 + 1 }

// servicePools divides a service's share among its Pods. It depends on the service's own replicas and on the server's limit
// alone: no product changes the pools of another.
func servicePools(platform *platformv1alpha1.Platform, spec *common.ServiceSpec) (pools, error) {
	path, replicas := "spec.replicas", max(spec.Replicas, 1)
	if spec.Autoscaling != nil {
		path, replicas = "spec.autoscaling.maxReplicas", spec.Autoscaling.MaxReplicas
	}
	perPod, pods, err := poolSize(platform, path, replicas)
	if err != nil {
		return pools{}, err
	}
	identity := max(perPod/5, 2)
	return pools{own: perPod - identity, identity: identity, total: (perPod - identity) * pods}, nil
}

// workerPools divides the share of a service's workers.
func workerPools(platform *platformv1alpha1.Platform, spec *common.WorkerSpec) (pools, error) {
	perPod, pods, err := poolSize(platform, "spec.worker.replicas", max(spec.Replicas, 1))
	return pools{own: perPod, total: perPod * pods}, err
}

// poolSize returns how many connections a Pod may have, and how many Pods may have them at a time; pods 0: as many as there are. path
// is the field of the replicas, for messages.
func poolSize(platform *platformv1alpha1.Platform, path string, replicas int32) (perPod, pods int32, err error) {
	db := platform.Spec.Backends.PostgreSQL
	if db == nil || db.Managed == nil {
		return connectionsPerPod, 0, nil
	}
	limit, pods := platformv1alpha1.MaxConnections(db.Managed), podsAtOnce(replicas)
	share := (limit - othersConnections - reservedConnections) / shares
	if perPod = min(share/pods, connectionsPerPod); perPod >= leastPerPod {
		return perPod, pods, nil
	}
	return 0, 0, reconcile.Stall(common.ReasonInvalidSpec,
		"%s: %d replicas need %d connections to PostgreSQL during a rollout, and their share of its %d is %d; ask for fewer, or set "+
			"spec.backends.postgresql.managed.config.max_connections of Platform %s to at least %d",
		path, replicas, pods*leastPerPod, limit, share, platform.Name, pods*leastPerPod*shares+othersConnections+reservedConnections)
}
