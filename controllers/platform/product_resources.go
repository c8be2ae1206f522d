// SPDX-License-Identifier: Apache-2.0

package platform

import (
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/config"
)

// serviceGrace is how long a service may take to stop, in seconds: it is told first to take no new requests, and ends those
// under way.
const serviceGrace = 60

// spillMargin is what the spill's volume has beyond the spill itself, which a Pod that exceeds is evicted.
const spillMargin = 16 * mib

// serviceInput is all that a service's children depend on.
type serviceInput struct {
	platform               *v1alpha1.Platform
	kind                   *productType
	spec                   *v1alpha1.ProductSpec
	defaults               defaults
	image                  string
	configName, configHash string
	config                 []byte
	// redis, rabbitmq and objects are empty when the service has none.
	postgres, redis, rabbitmq, objects backend.Binding
	spill                              int64 // bytes
}

// service are the children of one product service.
type service struct {
	secret     *corev1.Secret
	account    *corev1.ServiceAccount
	role       *rbacv1.Role
	binding    *rbacv1.RoleBinding
	service    *corev1.Service
	network    *networkingv1.NetworkPolicy
	disruption *policyv1.PodDisruptionBudget
	deployment *appsv1.Deployment

	// reviewer is nobody's namespace's; nil: whoever installed the operator made it.
	reviewer *rbacv1.ClusterRoleBinding
	// These are nil when the specification does not ask for them.
	autoscaler *autoscalingv2.HorizontalPodAutoscaler
	ingress    *networkingv1.Ingress
	// route and monitor are of kinds that may not be installed.
	route, monitor *unstructured.Unstructured
}

// objects are the children that every cluster takes, in the order in which they are applied.
func (s *service) objects() []client.Object {
	out := []client.Object{s.secret, s.account, s.role, s.binding, s.service, s.network, s.disruption, s.deployment}
	if s.autoscaler != nil {
		out = append(out, s.autoscaler)
	}
	if s.ingress != nil {
		out = append(out, s.ingress)
	}
	return out
}

// renderService makes the children of a product service. It is pure.
func renderService(in serviceInput) *service {
	s := &service{
		secret: &corev1.Secret{
			ObjectMeta: in.meta(), Type: corev1.SecretTypeOpaque, Data: map[string][]byte{config.FileName: in.config},
		},
		account:    &corev1.ServiceAccount{ObjectMeta: in.meta(), AutomountServiceAccountToken: ptr.To(false)},
		service:    &corev1.Service{ObjectMeta: in.meta(), Spec: in.servicePorts()},
		network:    &networkingv1.NetworkPolicy{ObjectMeta: in.meta(), Spec: in.network()},
		disruption: &policyv1.PodDisruptionBudget{ObjectMeta: in.meta(), Spec: disruptionOf(in.selector())},
		deployment: &appsv1.Deployment{ObjectMeta: in.meta(), Spec: in.deployment()},
	}
	s.secret.Name = in.configName
	s.role, s.binding, s.reviewer = in.rights()
	s.autoscaler, s.ingress, s.route, s.monitor = in.autoscaler(), in.ingress(), in.route(), in.monitor()
	return s
}

func (in *serviceInput) name() string { return workloadName(in.platform.Name, in.kind.name) }

func (in *serviceInput) meta() metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: in.name(), Namespace: in.platform.Namespace, Labels: objectLabels(in.platform.Name, in.kind.name)}
}

func (in *serviceInput) selector() map[string]string {
	return selectorLabels(in.platform.Name, in.kind.name)
}

func disruptionOf(selector map[string]string) policyv1.PodDisruptionBudgetSpec {
	return policyv1.PodDisruptionBudgetSpec{
		MaxUnavailable: ptr.To(intstr.FromInt32(1)), Selector: &metav1.LabelSelector{MatchLabels: selector},
		UnhealthyPodEvictionPolicy: ptr.To(policyv1.AlwaysAllow),
	}
}

func (in *serviceInput) deployment() appsv1.DeploymentSpec {
	spec := rolling(in.selector(), objectLabels(in.platform.Name, in.kind.name), in.configHash, in.pod())
	if in.spec.Autoscaling == nil {
		spec.Replicas = ptr.To(max(in.spec.Replicas, 1))
	}
	return spec
}

func (in *serviceInput) pod() corev1.PodSpec {
	spillLimit := resource.NewQuantity(in.spill+spillMargin, resource.BinarySI)
	volumes, mounts := configVolumes(in.platform, in.kind, in.configName, config.Dir)
	return corev1.PodSpec{
		ServiceAccountName:            in.name(),
		AutomountServiceAccountToken:  ptr.To(true), // the service is a client of its own kinds
		EnableServiceLinks:            ptr.To(false),
		TerminationGracePeriodSeconds: ptr.To[int64](serviceGrace),
		SecurityContext:               podSecurity(),
		TopologySpreadConstraints:     spreadOver(in.selector()),
		Volumes: append(volumes,
			corev1.Volume{Name: volumeSpill, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: spillLimit}}}),
		Containers: []corev1.Container{in.container(mounts)},
	}
}

// podSecurity and containerSecurity are Pod Security's profile restricted.
func podSecurity() *corev1.PodSecurityContext {
	return &corev1.PodSecurityContext{
		RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To[int64](serviceUser), RunAsGroup: ptr.To[int64](serviceUser), FSGroup: ptr.To[int64](serviceUser),
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}

func containerSecurity() *corev1.SecurityContext {
	return &corev1.SecurityContext{
		AllowPrivilegeEscalation: ptr.To(false), ReadOnlyRootFilesystem: ptr.To(true),
		Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
}

// spreadOver puts the replicas on different nodes, and in different zones, where there are any.
func spreadOver(selector map[string]string) []corev1.TopologySpreadConstraint {
	var out []corev1.TopologySpreadConstraint
	for _, key := range []string{corev1.LabelTopologyZone, corev1.LabelHostname} {
		out = append(out, corev1.TopologySpreadConstraint{
			MaxSkew: 1, TopologyKey: key, WhenUnsatisfiable: corev1.ScheduleAnyway,
			LabelSelector: &metav1.LabelSelector{MatchLabels: selector}, MatchLabelKeys: []string{appsv1.DefaultDeploymentUniqueLabelKey},
		})
	}
	return out
}

func containerPorts() []corev1.ContainerPort {
	return []corev1.ContainerPort{
		{Name: portHTTP, ContainerPort: config.Port, Protocol: corev1.ProtocolTCP},
		{Name: portMetrics, ContainerPort: config.MetricsPort, Protocol: corev1.ProtocolTCP},
	}
}

// memoryLimit tells Go's garbage collector what the container may use.
func memoryLimit() []corev1.EnvVar {
	return []corev1.EnvVar{{Name: "GOMEMLIMIT", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{
		ContainerName: containerName, Resource: "limits.memory", Divisor: resource.MustParse("1"),
	}}}}
}

func (in *serviceInput) container(mounts []corev1.VolumeMount) corev1.Container {
	sizes := &backendType{sizing: in.kind.sizing}
	return corev1.Container{
		Name: containerName, Image: in.image, ImagePullPolicy: corev1.PullIfNotPresent,
		Resources:    resourcesOf(sizes, &v1alpha1.ManagedBackend{Resources: in.spec.Resources}),
		Env:          memoryLimit(),
		Ports:        containerPorts(),
		VolumeMounts: append(mounts, corev1.VolumeMount{Name: volumeSpill, MountPath: config.SpillDir}),
		// Migrations of a large database may take minutes; a quick start is noticed quickly.
		StartupProbe:             probe(httpProbe(config.LivePath, portHTTP), 1, 2, 600),
		ReadinessProbe:           probe(httpProbe(config.ReadyPath, portHTTP), 2, 2, 2),
		LivenessProbe:            probe(httpProbe(config.LivePath, portHTTP), 10, 5, 3),
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		SecurityContext:          containerSecurity(),
	}
}

func (in *serviceInput) autoscaler() *autoscalingv2.HorizontalPodAutoscaler {
	a := in.spec.Autoscaling
	if a == nil {
		return nil
	}
	return &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: in.meta(), Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
		ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: appsv1.SchemeGroupVersion.String(), Kind: "Deployment", Name: in.name()},
		MinReplicas:    ptr.To(max(a.MinReplicas, 1)), MaxReplicas: a.MaxReplicas,
		Metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
			Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: ptr.To(a.CPUUtilization)},
		}}},
	}}
}

// rights are what the service may do: with its own kinds in its namespace, and to have a caller's token reviewed.
func (in *serviceInput) rights() (*rbacv1.Role, *rbacv1.RoleBinding, *rbacv1.ClusterRoleBinding) {
	subjects := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: in.name(), Namespace: in.platform.Namespace}}
	role := &rbacv1.Role{ObjectMeta: in.meta(), Rules: in.kind.rules}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: in.meta(), Subjects: subjects, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: in.name()},
	}
	if in.defaults.reviewerRole == "" {
		return role, binding, nil
	}
	reviewer := &rbacv1.ClusterRoleBinding{
		ObjectMeta: in.meta(), Subjects: subjects, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: in.defaults.reviewerRole},
	}
	reviewer.Namespace, reviewer.Name = "", reviewerName(in.platform.Namespace, in.platform.Name, in.kind.name)
	reviewer.Labels[labelOwnerNamespace] = in.platform.Namespace
	return role, binding, reviewer
}
