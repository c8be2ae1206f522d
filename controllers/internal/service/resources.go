// SPDX-License-Identifier: Apache-2.0

package service

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

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/setup"
	"github.com/itechsmart/operator/controllers/internal/workload"
	"github.com/itechsmart/operator/workloads/config"
)

const (
	// grace is the termination grace period of a service, in seconds: it stops taking requests, and completes those in flight.
	grace = 60
	// spillMargin is the space of the spill volume beyond the spill itself. A Pod that exceeds the volume is evicted.
	spillMargin = 16 << 20
)

// input is all that a service's children depend on.
type input struct {
	kind     *Type
	owner    owned
	platform *platformv1alpha1.Platform
	spec     *common.ServiceSpec
	worker   *common.WorkerSpec // nil: no worker runs
	servers  *servers
	options  setup.Options
	// file is the service's configuration, workerFile that of its worker.
	file, workerFile configFile
	// signingKeys are the ids of the keys that the configuration has.
	signingKeys string
}

// configFile is a rendered configuration; its hash leaves out what restarts nothing.
type configFile struct {
	hash string
	data []byte
}

// children are the objects of a service. Those that the specification does not ask for are nil.
type children struct {
	// component is the service, worker what runs beside it.
	component component
	worker    *component

	service    *corev1.Service
	binding    *rbacv1.RoleBinding
	autoscaler *autoscalingv2.HorizontalPodAutoscaler
	ingress    *networkingv1.Ingress
	// reviewer is in no namespace; nil: whoever installed the operator made it.
	reviewer *rbacv1.ClusterRoleBinding
	// route is of a kind that may not be installed.
	route *unstructured.Unstructured
}

// component has the objects that service and worker both have.
type component struct {
	name       string // as in labels and images
	secret     *corev1.Secret
	account    *corev1.ServiceAccount
	network    *networkingv1.NetworkPolicy
	disruption *policyv1.PodDisruptionBudget
	deployment *appsv1.Deployment
	// monitor is of a kind that may not be installed; nil: not asked for.
	monitor *unstructured.Unstructured
}

// objects returns the children that every cluster takes, in the order in which they are applied.
func (c *children) objects() []client.Object {
	out := []client.Object{c.component.secret, c.component.account}
	if c.binding != nil {
		out = append(out, c.binding)
	}
	out = append(out, c.service, c.component.network, c.component.disruption, c.component.deployment)
	if c.autoscaler != nil {
		out = append(out, c.autoscaler)
	}
	if c.ingress != nil {
		out = append(out, c.ingress)
	}
	if w := c.worker; w != nil {
		out = append(out, w.secret, w.account, w.network, w.disruption, w.deployment)
	}
	return out
}

// components returns the service and, where there is one, its worker.
func (c *children) components() []*component {
	if c.worker == nil {
		return []*component{&c.component}
	}
	return []*component{&c.component, c.worker}
}

// render makes the children of a service. It is pure.
func render(in *input) *children {
	c := &children{
		component: in.component(in.kind.Product, config.FileName, in.file, in.network(), in.pod()),
		service:   &corev1.Service{ObjectMeta: in.meta(in.kind.Product), Spec: in.servicePorts()},
	}
	if in.spec.Autoscaling == nil {
		c.component.deployment.Spec.Replicas = ptr.To(max(in.spec.Replicas, 1))
	}
	c.component.deployment.Annotations = map[string]string{AnnotationSigningKeys: in.signingKeys}
	c.component.monitor = monitorOf(monitorKind, "endpoints", in.spec, in.meta(in.kind.Product), in.selector(in.kind.Product))
	c.binding, c.reviewer = in.binding(), in.reviewer()
	c.autoscaler, c.ingress, c.route = in.autoscaler(), in.ingress(), in.route()
	if w := in.kind.Worker; w != nil {
		worker := in.component(w.Name, w.File, in.workerFile, in.workerNetwork(), in.workerPod())
		worker.deployment.Spec.Replicas = ptr.To(max(in.worker.Replicas, 1))
		worker.monitor = monitorOf(podMonitorKind, "podMetricsEndpoints", in.spec, in.meta(w.Name), in.selector(w.Name))
		c.worker = &worker
	}
	return c
}

func (in *input) component(name, fileName string, file configFile, network networkingv1.NetworkPolicySpec, pod corev1.PodSpec) component {
	selector := in.selector(name)
	c := component{
		name:       name,
		secret:     &corev1.Secret{ObjectMeta: in.meta(name), Type: corev1.SecretTypeOpaque, Data: map[string][]byte{fileName: file.data}},
		account:    &corev1.ServiceAccount{ObjectMeta: in.meta(name), AutomountServiceAccountToken: ptr.To(false)},
		network:    &networkingv1.NetworkPolicy{ObjectMeta: in.meta(name), Spec: network},
		disruption: &policyv1.PodDisruptionBudget{ObjectMeta: in.meta(name), Spec: disruption(selector)},
		deployment: &appsv1.Deployment{ObjectMeta: in.meta(name), Spec: rolling(selector, in.owner.labels(name), file.hash, pod)},
	}
	c.secret.Name = configPrefix(in.platform.Name, name) + file.hash
	return c
}

func (in *input) name(component string) string {
	return common.ServiceName(in.platform.Name, component)
}

func (in *input) meta(component string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: in.name(component), Namespace: in.platform.Namespace, Labels: in.owner.labels(component)}
}

func (in *input) selector(component string) map[string]string {
	return selectorLabels(in.platform.Name, component)
}

func disruption(selector map[string]string) policyv1.PodDisruptionBudgetSpec {
	return policyv1.PodDisruptionBudgetSpec{
		MaxUnavailable: ptr.To(intstr.FromInt32(1)), Selector: &metav1.LabelSelector{MatchLabels: selector},
		UnhealthyPodEvictionPolicy: ptr.To(policyv1.AlwaysAllow),
	}
}

// rolling returns a Deployment of which a new Pod is Ready before an old one goes.
func rolling(selector, labels map[string]string, hash string, pod corev1.PodSpec) appsv1.DeploymentSpec {
	return appsv1.DeploymentSpec{
		RevisionHistoryLimit: ptr.To[int32](2), ProgressDeadlineSeconds: ptr.To[int32](600),
		Selector: &metav1.LabelSelector{MatchLabels: selector},
		Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{
			MaxUnavailable: ptr.To(intstr.FromInt32(0)), MaxSurge: ptr.To(intstr.FromString("25%")),
		}},
		Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: map[string]string{workload.AnnotationChecksum: hash}}, Spec: pod,
		},
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

// pod returns a service's.
func (in *input) pod() corev1.PodSpec {
	spill := in.platform.Spec.Audit.SpillSize.Value()
	pod := in.anyPod(in.kind.Product, in.file.hash, config.Dir, in.spec.Image, in.kind.Sizing.Resources(in.spec.Resources), grace)
	pod.AutomountServiceAccountToken = ptr.To(true) // the service is a client of its own kinds
	pod.Volumes = append(pod.Volumes, corev1.Volume{Name: volumeSpill, VolumeSource: corev1.VolumeSource{
		EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: resource.NewQuantity(spill+spillMargin, resource.BinarySI)},
	}})
	container := &pod.Containers[0]
	container.VolumeMounts = append(container.VolumeMounts, corev1.VolumeMount{Name: volumeSpill, MountPath: config.SpillDir})
	return pod
}

// workerPod returns the Pod of a service's worker.
func (in *input) workerPod() corev1.PodSpec {
	w := in.kind.Worker
	return in.anyPod(w.Name, in.workerFile.hash, w.Dir, in.worker.Image, w.Sizing.Resources(in.worker.Resources), w.Grace)
}

// anyPod returns what the Pods of service and worker have in common.
func (in *input) anyPod(component, hash, dir, image string, resources corev1.ResourceRequirements, grace int64) corev1.PodSpec {
	if image == "" {
		image = in.options.Images.Of(component)
	}
	volumes, mounts := in.configVolumes(component, hash, dir)
	return corev1.PodSpec{
		ServiceAccountName:            in.name(component),
		AutomountServiceAccountToken:  ptr.To(false),
		EnableServiceLinks:            ptr.To(false),
		TerminationGracePeriodSeconds: ptr.To(grace),
		SecurityContext:               workload.PodSecurity(imageUser),
		TopologySpreadConstraints:     spreadOver(in.selector(component)),
		Volumes:                       volumes,
		Containers: []corev1.Container{{
			Name: workload.ContainerName, Image: image, ImagePullPolicy: corev1.PullIfNotPresent,
			Resources: resources, Env: memoryLimit(), Ports: containerPorts(), VolumeMounts: mounts,
			// Migrations of a large database may take minutes; a quick start is noticed quickly.
			StartupProbe:             workload.Probe(workload.HTTPGet(config.LivePath, portHTTP), 1, 2, 600),
			ReadinessProbe:           workload.Probe(workload.HTTPGet(config.ReadyPath, portHTTP), 2, 2, 2),
			LivenessProbe:            workload.Probe(workload.HTTPGet(config.LivePath, portHTTP), 10, 5, 3),
			TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
			SecurityContext:          workload.ContainerSecurity(),
		}},
	}
}

// configVolumes returns a component's file, and what changes beside it while it runs.
func (in *input) configVolumes(component, hash, dir string) ([]corev1.Volume, []corev1.VolumeMount) {
	secret := configPrefix(in.platform.Name, component) + hash
	volumes := []corev1.Volume{{Name: workload.VolumeConfig, VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
		SecretName: secret, DefaultMode: ptr.To[int32](0o440),
	}}}}
	mounts := []corev1.VolumeMount{{Name: workload.VolumeConfig, MountPath: dir, ReadOnly: true}}
	if in.kind.BindingsDir != "" {
		volumes = append(volumes, corev1.Volume{Name: volumeBindings, VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
			SecretName: common.BindingsName(in.platform.Name, in.kind.Product), DefaultMode: ptr.To[int32](0o440), Optional: ptr.To(true),
		}}})
		mounts = append(mounts, corev1.VolumeMount{Name: volumeBindings, MountPath: in.kind.BindingsDir, ReadOnly: true})
	}
	return volumes, mounts
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
		ContainerName: workload.ContainerName, Resource: "limits.memory", Divisor: resource.MustParse("1"),
	}}}}
}

func (in *input) autoscaler() *autoscalingv2.HorizontalPodAutoscaler {
	a := in.spec.Autoscaling
	if a == nil {
		return nil
	}
	return &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: in.meta(in.kind.Product), Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
		ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{
			APIVersion: appsv1.SchemeGroupVersion.String(), Kind: "Deployment", Name: in.name(in.kind.Product),
		},
		MinReplicas: ptr.To(max(a.MinReplicas, 1)), MaxReplicas: a.MaxReplicas,
		Metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
			Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: ptr.To(a.CPUUtilization)},
		}}},
	}}
}

func (in *input) subjects() []rbacv1.Subject {
	return []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: in.name(in.kind.Product), Namespace: in.platform.Namespace}}
}

// binding gives the service the permissions of its product's ClusterRole in this namespace alone.
func (in *input) binding() *rbacv1.RoleBinding {
	if len(in.kind.Rules) == 0 {
		return nil
	}
	return &rbacv1.RoleBinding{ObjectMeta: in.meta(in.kind.Product), Subjects: in.subjects(), RoleRef: rbacv1.RoleRef{
		APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: in.options.ServiceRolePrefix + "-" + in.kind.Product + "-service",
	}}
}

// reviewer lets the service have a caller's token reviewed.
func (in *input) reviewer() *rbacv1.ClusterRoleBinding {
	if in.options.TokenReviewerRole == "" {
		return nil
	}
	reviewer := &rbacv1.ClusterRoleBinding{
		ObjectMeta: in.meta(in.kind.Product), Subjects: in.subjects(),
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: in.options.TokenReviewerRole},
	}
	reviewer.Namespace, reviewer.Name = "", reviewerName(in.platform.Namespace, in.platform.Name, in.kind.Product)
	reviewer.Labels[labelOwnerNamespace] = in.platform.Namespace
	return reviewer
}
