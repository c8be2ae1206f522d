// SPDX-License-Identifier: Apache-2.0

package service

import (
	"maps"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/workload"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/config"
)

func TestVersionOf(t *testing.T) {
	for image, want := range map[string]string{
		"docker.io/itechsmart/echo:1.2": "1.2", "localhost:5000/echo": "", "localhost:5000/echo:3@sha256:abc": "3", "echo": "",
	} {
		if got := versionOf(image); got != want {
			t.Errorf("%s: %q, want %q", image, got, want)
		}
	}
}

func TestNames(t *testing.T) {
	for got, want := range map[string]string{
		configPrefix("main", "echo"):               "main-echo-config-",
		queueName("tenant", "main", "relay"):       "relay.tenant.main.tasks",
		reviewerName("tenant", "main", "echo"):     "itechsmart:tenant:main-echo:token-reviewer",
		connectionName("tenant", "main", "kafka"):  "Platform/tenant/main/kafka",
		keyIDs([]config.Key{{ID: "a"}, {ID: "b"}}): "a,b",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if got := relay().Components(); !slices.Equal(got, []string{"relay", "relay-worker"}) {
		t.Errorf("components %v", got)
	}
}

func TestPortOf(t *testing.T) {
	for endpoint, want := range map[string]int32{
		"http://collector:4318": 4318, "http://collector": 80, "https://collector": 443, "https://[fd00::1]:8443/v1": 8443, "://": 443,
	} {
		if got := portOf(endpoint); got != want {
			t.Errorf("%s: %d, want %d", endpoint, got, want)
		}
	}
}

func TestRateLimit(t *testing.T) {
	for name, test := range map[string]struct {
		spec platformv1alpha1.RateLimit
		want config.RateLimit
	}{
		"by default":       {platformv1alpha1.RateLimit{}, config.RateLimit{FailOpen: true}},
		"a limit":          {platformv1alpha1.RateLimit{RequestsPerMinute: ptr.To[int32](7), Burst: 3}, config.RateLimit{RequestsPerMinute: 7, Burst: 3, FailOpen: true}},
		"no limit":         {platformv1alpha1.RateLimit{RequestsPerMinute: ptr.To[int32](0)}, config.RateLimit{RequestsPerMinute: -1, FailOpen: true}},
		"refused at fault": {platformv1alpha1.RateLimit{OnStoreFailure: platformv1alpha1.StoreFailureRefuse}, config.RateLimit{}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := rateLimit(&test.spec); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

// TestCredentialsAreTheServicesOwn: of a binding, service and workers get what they log in with, and nothing else.
func TestCredentialsAreTheServicesOwn(t *testing.T) {
	broker := brokerLogin(backend.Binding{
		Type: "rabbitmq", Host: "mq", Port: "5672", Username: "u", Password: "p", URI: "amqp://u:p@mq:5672/tasks?token=canary",
		Extra: map[string]string{"virtual-host": "tasks", "management-token": "canary"},
	})
	want := map[string]string{"type": "rabbitmq", "host": "mq", "port": "5672", "username": "u", "password": "p", "virtual-host": "tasks", "uri": "amqp://u:p@mq:5672/tasks"}
	if !maps.Equal(broker, want) {
		t.Errorf("broker %v", broker)
	}
	s := servers{objects: backend.Binding{Type: "objectstorage", Host: "s3", Port: "443", Extra: map[string]string{
		"bucket": "lake", "prefix": "a/", "region": "eu", "access-key": "k", "secret-key": "s", "administrator-token": "canary",
	}}}
	bucket := s.bucket()
	if _, leaked := bucket["administrator-token"]; leaked || bucket["bucket"] != "lake" || bucket["secret-key"] != "s" || bucket["prefix"] != "a/" {
		t.Errorf("bucket %v", bucket)
	}
	if (&servers{}).bucket() != nil {
		t.Error("a bucket where there is none")
	}
}

// rollout returns a Deployment of three replicas with a status.
func rollout(status appsv1.DeploymentStatus, change ...func(*appsv1.Deployment)) *appsv1.Deployment {
	d := &appsv1.Deployment{Status: status}
	d.Generation, d.Spec.Replicas = 2, ptr.To[int32](3)
	d.Spec.Template.Annotations = map[string]string{workload.AnnotationChecksum: "now"}
	d.Spec.Template.Spec.Containers = []corev1.Container{{Image: "echo:1"}}
	for _, f := range change {
		f(d)
	}
	return d
}

func TestRollout(t *testing.T) {
	scaled := &common.Autoscaling{MinReplicas: 2, MaxReplicas: 5}
	all := appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: 3, UpdatedReplicas: 3, AvailableReplicas: 3}
	with := func(change func(*appsv1.DeploymentStatus)) appsv1.DeploymentStatus {
		status := all
		change(&status)
		return status
	}
	for name, test := range map[string]struct {
		live     *appsv1.Deployment
		scaled   *common.Autoscaling
		replicas int32
		done     bool
	}{
		"missing":                   {nil, nil, 0, false},
		"all":                       {rollout(all), nil, 3, true},
		"one is not available":      {rollout(with(func(s *appsv1.DeploymentStatus) { s.AvailableReplicas = 2 })), nil, 2, false},
		"an old one still ends":     {rollout(with(func(s *appsv1.DeploymentStatus) { s.Replicas, s.AvailableReplicas = 4, 4 })), nil, 3, false},
		"not observed":              {rollout(with(func(s *appsv1.DeploymentStatus) { s.ObservedGeneration = 1 })), nil, 0, false},
		"the last configuration":    {rollout(all, func(d *appsv1.Deployment) { d.Spec.Template.Annotations[workload.AnnotationChecksum] = "last" }), nil, 0, false},
		"the last image":            {rollout(all, func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "echo:0" }), nil, 0, false},
		"more are being added":      {rollout(with(func(s *appsv1.DeploymentStatus) { s.AvailableReplicas = 2 })), scaled, 2, true},
		"fewer than the least":      {rollout(with(func(s *appsv1.DeploymentStatus) { s.AvailableReplicas = 1 })), scaled, 1, false},
		"old ones of an autoscaled": {rollout(with(func(s *appsv1.DeploymentStatus) { s.UpdatedReplicas = 2 })), scaled, 2, false},
	} {
		t.Run(name, func(t *testing.T) {
			replicas, done := Rollout(test.live, rollout(all), test.scaled)
			if replicas != test.replicas || done != test.done {
				t.Errorf("got %d, %t; want %d, %t", replicas, done, test.replicas, test.done)
			}
		})
	}
}
