// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/apply"
	"github.com/itechsmart/operator/controllers/internal/workload"
	"github.com/itechsmart/operator/internal/backend"
)

// defaults are the operator's own settings that children depend on.
type defaults struct {
	// images replaces the official image, by the backend's name.
	images map[string]string
	// managerNamespace may connect to every backend; empty: only the Platform's namespace may.
	managerNamespace string
}

// managed are the children of one managed backend.
type managed struct {
	config      *corev1.ConfigMap
	service     *corev1.Service
	headless    *corev1.Service
	disruption  *policyv1.PodDisruptionBudget
	network     *networkingv1.NetworkPolicy
	statefulSet *appsv1.StatefulSet
}

// objects returns the children in the order in which they are applied.
func (m *managed) objects() []client.Object {
	return []client.Object{m.config, m.service, m.headless, m.disruption, m.network, m.statefulSet}
}

// renderManaged makes the children of a managed backend. It is pure.
func renderManaged(p *v1alpha1.Platform, kind *backendType, spec *v1alpha1.ManagedBackend, d defaults) *managed {
	name := workloadName(p.Name, kind.name)
	resources := kind.sizing.Resources(spec.Resources)
	w := kind.server(serverInput{
		host: serviceHost(name, p.Namespace), memory: resources.Limits.Memory().Value(), config: settings(spec.Config),
	})
	meta := func(name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Name: name, Namespace: p.Namespace, Labels: objectLabels(p.Name, kind.name)}
	}
	m := &managed{
		config:     &corev1.ConfigMap{ObjectMeta: meta(name), Data: w.files},
		service:    &corev1.Service{ObjectMeta: meta(name), Spec: servicePorts(p, kind, &w)},
		headless:   &corev1.Service{ObjectMeta: meta(headlessName(p.Name, kind.name)), Spec: servicePorts(p, kind, &w)},
		disruption: &policyv1.PodDisruptionBudget{ObjectMeta: meta(name), Spec: disruption(p, kind)},
		network:    &networkingv1.NetworkPolicy{ObjectMeta: meta(name), Spec: networkPolicy(p, kind, &w, d)},
	}
	m.headless.Spec.ClusterIP = corev1.ClusterIPNone
	m.headless.Spec.PublishNotReadyAddresses = true
	m.statefulSet = &appsv1.StatefulSet{ObjectMeta: meta(name), Spec: appsv1.StatefulSetSpec{
		Replicas:    ptr.To[int32](1),
		ServiceName: m.headless.Name,
		Selector:    &metav1.LabelSelector{MatchLabels: selectorLabels(p.Name, kind.name)},
		// Parallel, or a pod that cannot start would keep its own correction from being rolled out.
		PodManagementPolicy: appsv1.ParallelPodManagement,
		UpdateStrategy:      appsv1.StatefulSetUpdateStrategy{Type: appsv1.RollingUpdateStatefulSetStrategyType},
		PersistentVolumeClaimRetentionPolicy: &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{
			WhenDeleted: claimRetention(p.Spec.DeletionPolicy), WhenScaled: appsv1.RetainPersistentVolumeClaimRetentionPolicyType,
		},
		Template:             podTemplate(p, kind, spec, &w, resources, d),
		VolumeClaimTemplates: []corev1.PersistentVolumeClaim{claim(p, kind, spec.Storage)},
	}}
	m.statefulSet.Annotations = map[string]string{annotationRevision: workload.Checksum(m.statefulSet.Spec.Template)}
	return m
}

func podTemplate(p *v1alpha1.Platform, kind *backendType, spec *v1alpha1.ManagedBackend, w *server, resources corev1.ResourceRequirements, d defaults) corev1.PodTemplateSpec {
	volumes, mounts := volumesOf(p, kind, w)
	container := corev1.Container{
		Name: workload.ContainerName, Image: imageOf(kind, spec, d.images), Command: w.command, Args: w.args,
		Env: environment(p, kind, w), Resources: resources, VolumeMounts: mounts,
		// Startup is asked often, so that a quick server is Ready quickly; recovery may take an hour.
		StartupProbe:             workload.Probe(w.startup, 2, 5, 1800),
		ReadinessProbe:           workload.Probe(w.readiness, 10, 5, 3),
		LivenessProbe:            workload.Probe(w.liveness, 20, 10, 6),
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: ptr.To(false), ReadOnlyRootFilesystem: ptr.To(true),
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
	}
	for _, port := range portsOf(kind, w) {
		container.Ports = append(container.Ports, corev1.ContainerPort{Name: port.name, ContainerPort: port.number, Protocol: corev1.ProtocolTCP})
	}
	if w.preStop != nil {
		container.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: w.preStop}}}
	}
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{
			Labels:      objectLabels(p.Name, kind.name),
			Annotations: map[string]string{workload.AnnotationChecksum: workload.Checksum(w.files)},
		},
		Spec: corev1.PodSpec{
			Containers: []corev1.Container{container}, Volumes: volumes,
			TerminationGracePeriodSeconds: ptr.To(w.grace),
			AutomountServiceAccountToken:  ptr.To(false),
			EnableServiceLinks:            ptr.To(false),
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To(w.uid), RunAsGroup: ptr.To(w.uid), FSGroup: ptr.To(w.uid),
				FSGroupChangePolicy: ptr.To(corev1.FSGroupChangeOnRootMismatch),
				SeccompProfile:      &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
		},
	}
}

// volumesOf returns the pod's volumes and where they are mounted. The data volume itself comes from the claim.
func volumesOf(p *v1alpha1.Platform, kind *backendType, w *server) ([]corev1.Volume, []corev1.VolumeMount) {
	config := corev1.Volume{Name: workload.VolumeConfig, VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
		LocalObjectReference: corev1.LocalObjectReference{Name: workloadName(p.Name, kind.name)},
	}}}
	volumes := []corev1.Volume{config}
	mounts := []corev1.VolumeMount{{Name: volumeData, MountPath: w.dataPath}}
	for _, s := range w.scratch {
		empty := &corev1.EmptyDirVolumeSource{}
		if s.memory {
			empty.Medium = corev1.StorageMediumMemory
		}
		if s.limit != "" {
			empty.SizeLimit = ptr.To(resource.MustParse(s.limit))
		}
		volumes = append(volumes, corev1.Volume{Name: s.name, VolumeSource: corev1.VolumeSource{EmptyDir: empty}})
		mounts = append(mounts, corev1.VolumeMount{Name: s.name, MountPath: s.path})
	}
	for _, m := range w.mounts {
		mounts = append(mounts, corev1.VolumeMount{Name: workload.VolumeConfig, MountPath: m.path, SubPath: m.file, ReadOnly: true})
	}
	return volumes, mounts
}

func environment(p *v1alpha1.Platform, kind *backendType, w *server) []corev1.EnvVar {
	var env []corev1.EnvVar
	for _, name := range slices.Sorted(maps.Keys(w.env)) {
		env = append(env, corev1.EnvVar{Name: name, Value: w.env[name]})
	}
	for _, name := range slices.Sorted(maps.Keys(w.secretEnv)) {
		env = append(env, corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: credentialsName(p.Name, kind.name)}, Key: w.secretEnv[name],
		}}})
	}
	return env
}

// portsOf returns all ports, the client's first.
func portsOf(kind *backendType, w *server) []port {
	return append([]port{{name: "client", number: kind.port}}, w.ports...)
}

func servicePorts(p *v1alpha1.Platform, kind *backendType, w *server) corev1.ServiceSpec {
	spec := corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, Selector: selectorLabels(p.Name, kind.name)}
	for _, port := range portsOf(kind, w) {
		spec.Ports = append(spec.Ports, corev1.ServicePort{
			Name: port.name, Port: port.number, TargetPort: intstr.FromString(port.name), Protocol: corev1.ProtocolTCP,
		})
	}
	return spec
}

// disruption lets one pod be evicted: there is only one, and a node must be able to drain.
func disruption(p *v1alpha1.Platform, kind *backendType) policyv1.PodDisruptionBudgetSpec {
	return policyv1.PodDisruptionBudgetSpec{
		MaxUnavailable:             ptr.To(intstr.FromInt32(1)),
		Selector:                   &metav1.LabelSelector{MatchLabels: selectorLabels(p.Name, kind.name)},
		UnhealthyPodEvictionPolicy: ptr.To(policyv1.AlwaysAllow),
	}
}

// networkPolicy lets in the operator's pods of the namespace and the manager, and nothing out.
func networkPolicy(p *v1alpha1.Platform, kind *backendType, w *server, d defaults) networkingv1.NetworkPolicySpec {
	from := []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{apply.LabelManagedBy: apply.ManagedBy}}}}
	if d.managerNamespace != "" {
		from = append(from, networkingv1.NetworkPolicyPeer{NamespaceSelector: &metav1.LabelSelector{
			MatchLabels: map[string]string{corev1.LabelMetadataName: d.managerNamespace},
		}})
	}
	rule := networkingv1.NetworkPolicyIngressRule{From: from}
	for _, port := range portsOf(kind, w) {
		rule.Ports = append(rule.Ports, networkingv1.NetworkPolicyPort{Protocol: ptr.To(corev1.ProtocolTCP), Port: ptr.To(intstr.FromInt32(port.number))})
	}
	return networkingv1.NetworkPolicySpec{
		PodSelector: metav1.LabelSelector{MatchLabels: selectorLabels(p.Name, kind.name)},
		PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
		Ingress:     []networkingv1.NetworkPolicyIngressRule{rule},
	}
}

func claim(p *v1alpha1.Platform, kind *backendType, storage v1alpha1.Storage) corev1.PersistentVolumeClaim {
	spec := corev1.PersistentVolumeClaimSpec{
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: sizeOf(storage)}},
	}
	if storage.StorageClassName != "" {
		spec.StorageClassName = ptr.To(storage.StorageClassName)
	}
	return corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: volumeData, Labels: objectLabels(p.Name, kind.name)}, Spec: spec}
}

// sizeOf returns the volume's size; the schema's default where a caller went around the API server.
func sizeOf(storage v1alpha1.Storage) resource.Quantity {
	if storage.Size.IsZero() {
		return resource.MustParse("8Gi")
	}
	return storage.Size
}

func claimRetention(policy common.DeletionPolicy) appsv1.PersistentVolumeClaimRetentionPolicyType {
	if policy == common.DeletionDelete {
		return appsv1.DeletePersistentVolumeClaimRetentionPolicyType
	}
	return appsv1.RetainPersistentVolumeClaimRetentionPolicyType
}

// imageOf returns the image to run: the specification's, or the default one with the specification's version as its tag.
func imageOf(kind *backendType, spec *v1alpha1.ManagedBackend, images map[string]string) string {
	if spec.Image != "" {
		return spec.Image
	}
	image := images[kind.name]
	if image == "" {
		image = kind.image
	}
	if spec.Version == "" {
		return image
	}
	image, _, _ = strings.Cut(image, "@")
	if colon := strings.LastIndexByte(image, ':'); colon > strings.LastIndexByte(image, '/') {
		image = image[:colon]
	}
	return image + ":" + spec.Version
}

// bindingSecret returns the Secret that products read. source is the version of the Secret that it is a copy of, if it is one.
func bindingSecret(p *v1alpha1.Platform, kind *backendType, b backend.Binding, source string) *corev1.Secret {
	data := map[string][]byte{}
	for key, value := range b.Data() {
		data[key] = []byte(value)
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: p.BindingSecretName(kind.name), Namespace: p.Namespace, Labels: objectLabels(p.Name, kind.name)},
		Type:       corev1.SecretType(bindingSecretType + kind.name),
		Data:       data,
	}
	if source != "" {
		secret.Annotations = map[string]string{annotationSource: source}
	}
	return secret
}

func settings(config map[string]v1alpha1.ConfigValue) map[string]string {
	out := make(map[string]string, len(config))
	for key, value := range config {
		out[key] = string(value)
	}
	return out
}
