// SPDX-License-Identifier: Apache-2.0

package service

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
)

// managedWith returns a Platform whose PostgreSQL takes so many connections; empty: the default.
func managedWith(maxConnections string) *platformv1alpha1.Platform {
	p := &platformv1alpha1.Platform{ObjectMeta: metav1.ObjectMeta{Name: "main"}}
	managed := &platformv1alpha1.ManagedBackend{}
	if maxConnections != "" {
		managed.Config = map[string]platformv1alpha1.ConfigValue{platformv1alpha1.SettingMaxConnections: platformv1alpha1.ConfigValue(maxConnections)}
	}
	p.Spec.Backends.PostgreSQL = &platformv1alpha1.Backend{Managed: managed}
	return p
}

func TestPools(t *testing.T) {
	external := &platformv1alpha1.Platform{}
	external.Spec.Backends.PostgreSQL = &platformv1alpha1.Backend{External: &platformv1alpha1.ExternalBackend{}}
	for name, test := range map[string]struct {
		platform *platformv1alpha1.Platform
		spec     common.ServiceSpec
		want     pools
	}{
		"one replica":                 {managedWith(""), common.ServiceSpec{Replicas: 1}, pools{own: 5, identity: 2, total: 15}},
		"no number is one replica":    {managedWith(""), common.ServiceSpec{}, pools{own: 5, identity: 2, total: 15}},
		"three replicas":              {managedWith(""), common.ServiceSpec{Replicas: 3}, pools{own: 2, identity: 2, total: 10}},
		"as many as the autoscaler's": {managedWith(""), common.ServiceSpec{Replicas: 9, Autoscaling: &common.Autoscaling{MaxReplicas: 3}}, pools{own: 2, identity: 2, total: 10}},
		"a larger server":             {managedWith("1600"), common.ServiceSpec{Replicas: 3}, pools{own: 16, identity: 3, total: 80}},
		"no more than enough":         {managedWith("9999"), common.ServiceSpec{Replicas: 1}, pools{own: 20, identity: 5, total: 60}},
		"somebody else's server":      {external, common.ServiceSpec{Replicas: 50}, pools{own: 20, identity: 5}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := servicePools(test.platform, &test.spec)
			if err != nil || got != test.want {
				t.Errorf("got %+v, %v; want %+v", got, err, test.want)
			}
		})
	}
}

func TestWorkerPools(t *testing.T) {
	got, err := workerPools(managedWith(""), &common.WorkerSpec{Replicas: 2})
	if want := (pools{own: 5, total: 20}); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	if _, err := workerPools(managedWith(""), &common.WorkerSpec{Replicas: 40}); err == nil || !strings.Contains(err.Error(), "spec.worker.replicas: 40 replicas") {
		t.Errorf("too many workers: %v", err)
	}
}

// TestTenProductsFit: on a managed server as it is by default, all Pods of ten services and six workers that a rollout of all of
// them at once runs have their connections, and others theirs.
func TestTenProductsFit(t *testing.T) {
	for workers := range 7 {
		platform, sum, ofRoles := managedWith(""), int32(0), int32(0)
		for i := range 10 {
			service, err := servicePools(platform, &common.ServiceSpec{Replicas: 1})
			if err != nil {
				t.Fatal(err)
			}
			sum += (service.own + service.identity) * podsAtOnce(1)
			ofRoles += service.total
			if i >= workers {
				continue
			}
			worker, err := workerPools(platform, &common.WorkerSpec{Replicas: 1})
			if err != nil {
				t.Fatal(err)
			}
			sum += worker.own * podsAtOnce(1)
			ofRoles += worker.total
		}
		usable := platformv1alpha1.MaxConnections(platform.Spec.Backends.PostgreSQL.Managed) - reservedConnections
		if sum+othersConnections > usable {
			t.Errorf("ten services, %d with workers: %d connections and %d of others, and %d are usable", workers, sum, othersConnections, usable)
		}
		if ofRoles > sum {
			t.Errorf("the limits of the roles are %d, and their Pods' pools have %d", ofRoles, sum)
		}
	}
}

// TestPoolsStayWithinTheShare: whatever replicas a service asks for, its Pods stay within its own share.
func TestPoolsStayWithinTheShare(t *testing.T) {
	for _, limit := range []string{"", "100", "500", "1000", "5000"} {
		platform := managedWith(limit)
		share := (platformv1alpha1.MaxConnections(platform.Spec.Backends.PostgreSQL.Managed) - othersConnections - reservedConnections) / shares
		for replicas := int32(1); replicas <= 100; replicas++ {
			got, err := servicePools(platform, &common.ServiceSpec{Replicas: replicas})
			if err != nil {
				continue
			}
			if sum := (got.own + got.identity) * podsAtOnce(replicas); sum > share || got.own < 2 || got.identity < 2 {
				t.Errorf("max_connections %q, %d replicas: %+v, in all %d of %d", limit, replicas, got, sum, share)
			}
		}
	}
}

// TestTooManyReplicas: the message names the field and the least setting with which the replicas fit.
func TestTooManyReplicas(t *testing.T) {
	for path, spec := range map[string]*common.ServiceSpec{
		"spec.replicas":                {Replicas: 30},
		"spec.autoscaling.maxReplicas": {Replicas: 1, Autoscaling: &common.Autoscaling{MaxReplicas: 30}},
	} {
		_, err := servicePools(managedWith(""), spec)
		var stalled *reconcile.Terminal
		if !errors.As(err, &stalled) || stalled.Reason != common.ReasonInvalidSpec || !strings.HasPrefix(stalled.Message, path+": 30 replicas need ") {
			t.Fatalf("%s: %v", path, err)
		}
		found := regexp.MustCompile(`set spec\.backends\.postgresql\.managed\.config\.max_connections of Platform main to at least (\d+)$`).FindStringSubmatch(stalled.Message)
		if found == nil {
			t.Fatalf("the message does not say what to set: %s", stalled.Message)
		}
		if _, err := servicePools(managedWith(found[1]), spec); err != nil {
			t.Errorf("set as told: %v", err)
		}
	}
}

// podsAtOnce has what a rolling update of the rendered Deployment adds, rounded up as Kubernetes does, and one that ends.
func TestPodsAtOnce(t *testing.T) {
	for replicas, want := range map[int32]int32{1: 3, 2: 4, 4: 6, 5: 8, 8: 11, 9: 13, 100: 126} {
		if got := podsAtOnce(replicas); got != want {
			t.Errorf("%d replicas: %d Pods, want %d", replicas, got, want)
		}
	}
	rolling := render(testInput(echo(), &common.ServiceSpec{})).component.deployment.Spec.Strategy.RollingUpdate
	if rolling.MaxSurge.String() != "25%" || rolling.MaxUnavailable.String() != "0" {
		t.Errorf("the Deployment's rollout %v does not fit", rolling)
	}
}
