// SPDX-License-Identifier: Apache-2.0

package service

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
	"github.com/itechsmart/operator/controllers/internal/setup"
	"github.com/itechsmart/operator/controllers/internal/workload"
	"github.com/itechsmart/operator/internal/backend"
)

// echo returns a product without a worker.
func echo() *Type {
	return &Type{
		Product: "echo", Kind: "EchoService", Title: "Echo",
		Sizing: workload.Sizing{CPU: "100m", Memory: "128Mi", MemoryLimit: "512Mi"},
		Rules:  []rbacv1.PolicyRule{{APIGroups: []string{"echo.example.com"}, Resources: []string{"echoes"}, Verbs: []string{"get", "list", "watch"}}},
	}
}

// relay returns a product with a worker, a queue, a bucket and bindings.
func relay() *Type {
	return &Type{
		Product: "relay", Kind: "RelayService", Title: "Relay", Queue: true, Objects: true, BindingsDir: "/etc/bindings", OpenEgress: true,
		Sizing: workload.Sizing{CPU: "100m", Memory: "128Mi", MemoryLimit: "512Mi"},
		Worker: &Worker{Name: "relay-worker", Sizing: workload.Sizing{CPU: "50m", Memory: "64Mi", MemoryLimit: "256Mi"}, Grace: 30, File: "worker.json", Dir: "/etc/worker"},
	}
}

func testInput(kind *Type, spec *common.ServiceSpec) *input {
	platform := &platformv1alpha1.Platform{ObjectMeta: metav1.ObjectMeta{Name: "main", Namespace: "tenant"}}
	platform.Spec.Audit.SpillSize = resource.MustParse("64Mi")
	return &input{
		kind: kind, owner: owned{kind: kind.Kind, name: "mine", platform: "main"}, platform: platform, spec: spec,
		servers: &servers{postgres: backend.Binding{Type: "postgresql", Provider: platformv1alpha1.ModeManaged, Host: "main-postgresql", Port: "5432"}},
		options: setup.Options{
			Images:           setup.Images{Registry: "example.com", Tag: "1.2.3"},
			ManagerNamespace: "itechsmart-system", TokenReviewerRole: "itechsmart-token-reviewer", ServiceRolePrefix: "itechsmart",
		},
		file: configFile{hash: "0123456789abcdef", data: []byte("{}")}, workerFile: configFile{hash: "fedcba9876543210", data: []byte("{}")},
		signingKeys: "key-1,key-2",
	}
}

func TestLeastChildren(t *testing.T) {
	c := render(testInput(echo(), &common.ServiceSpec{Replicas: 1}))
	ctrltest.Golden(t, "service-least", append(c.objects(), c.reviewer)...)
	if c.route != nil || c.component.monitor != nil || c.worker != nil || len(c.components()) != 1 {
		t.Error("the specification asks for no route, no monitor and no worker")
	}
}

func TestMostChildren(t *testing.T) {
	in := testInput(echo(), &common.ServiceSpec{
		Autoscaling: &common.Autoscaling{MinReplicas: 2, MaxReplicas: 5, CPUUtilization: 80}, Image: "example.org/own/echo:2",
		Resources: &corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")}},
		Ingress:   &common.ServiceIngress{Host: "echo.example.com", ClassName: "nginx", TLSSecretName: "echo-tls", Annotations: map[string]string{"a": "b"}},
		HTTPRoute: &common.ServiceHTTPRoute{
			ParentRefs: []common.GatewayReference{{Name: "public", Namespace: "gateways", SectionName: "https"}}, Hostnames: []string{"echo.example.com"},
		},
		ServiceMonitor: &common.ServiceMonitor{Interval: metav1.Duration{Duration: time.Minute}, Labels: map[string]string{"release": "prometheus"}},
		AllowFrom: []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{
			MatchLabels: map[string]string{corev1.LabelMetadataName: "ingress-nginx"},
		}}},
	})
	in.platform.Spec.Tracing = &platformv1alpha1.Tracing{Endpoint: "http://collector.observability.svc:4318"}
	in.servers = &servers{
		postgres: backend.Binding{Type: "postgresql", Provider: platformv1alpha1.ModeExternal, Host: "db.example.com", Port: "6432"},
		redis:    backend.Binding{Type: "redis", Provider: platformv1alpha1.ModeManaged, Host: "main-redis", Port: "6379"},
		objects:  backend.Binding{Type: "objectstorage", Provider: platformv1alpha1.ModeExternal, Host: "s3.example.com", Port: "9000"},
	}
	in.options.TokenReviewerRole = ""
	c := render(in)
	if c.reviewer != nil {
		t.Error("a binding to no role")
	}
	if c.component.deployment.Spec.Replicas != nil {
		t.Error("the autoscaler chooses the replicas, and the Deployment names some")
	}
	ctrltest.Golden(t, "service-most", append(c.objects(), client.Object(c.route), client.Object(c.component.monitor))...)
}

func TestChildrenWithAWorker(t *testing.T) {
	in := testInput(relay(), &common.ServiceSpec{Replicas: 1, ServiceMonitor: &common.ServiceMonitor{Interval: metav1.Duration{Duration: time.Minute}}})
	in.worker = &common.WorkerSpec{Replicas: 2, Resources: &corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}}}
	in.servers.rabbitmq = backend.Binding{Type: "rabbitmq", Provider: platformv1alpha1.ModeManaged, Host: "main-rabbitmq", Port: "5672"}
	c := render(in)
	if c.binding != nil {
		t.Error("a product without rules is bound to a role")
	}
	ctrltest.Golden(t, "service-worker", append(c.objects(), c.component.monitor, c.worker.monitor)...)
}

// Pods of services and workers satisfy the Pod Security profile restricted, and a worker is no client of Kubernetes.
func TestPodsAreRestricted(t *testing.T) {
	in := testInput(relay(), &common.ServiceSpec{})
	in.worker = &common.WorkerSpec{}
	for name, pod := range map[string]corev1.PodSpec{"service": in.pod(), "worker": in.workerPod()} {
		security, container := pod.SecurityContext, pod.Containers[0]
		if !*security.RunAsNonRoot || *security.RunAsUser == 0 || security.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
			t.Errorf("%s: pod security context %v", name, security)
		}
		if s := container.SecurityContext; *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || s.Capabilities.Drop[0] != "ALL" {
			t.Errorf("%s: container security context %v", name, s)
		}
		if mounted := *pod.AutomountServiceAccountToken; mounted != (name == "service") {
			t.Errorf("%s: a token is mounted: %t", name, mounted)
		}
		if container.StartupProbe == nil || container.ReadinessProbe == nil || container.LivenessProbe == nil {
			t.Errorf("%s: a probe is missing", name)
		}
	}
}
