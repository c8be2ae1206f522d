// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"
	"encoding/json"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/workloads/config"
)

// workerType is what works beside a product's service. It is no client of Kubernetes: it reads one file, and answers for its
// health and its metrics where a service does.
type workerType struct {
	// name in labels and names, and of the image that the manager's --product-image replaces.
	name string
	// image is the default one.
	image string
	// sizing is the container's default resources.
	sizing sizing
	// grace is how long it may take to stop, in seconds.
	grace int64
	// file in dir is what it is told.
	file, dir string
	// pick is how it runs, in a specification that has the product.
	pick func(*v1alpha1.Products) workerSpec
	// tell is the content of its file.
	tell func(*productRun, config.Database) any
}

// workerSpec is how a worker runs.
type workerSpec struct {
	replicas  int32
	image     string
	resources *corev1.ResourceRequirements
}

// workerInput is all that a worker's children depend on.
type workerInput struct {
	platform               *v1alpha1.Platform
	kind                   *productType
	product                *v1alpha1.ProductSpec
	spec                   workerSpec
	image                  string
	configName, configHash string
	config                 []byte
}

// worker are the children of a product's worker.
type worker struct {
	secret     *corev1.Secret
	account    *corev1.ServiceAccount
	network    *networkingv1.NetworkPolicy
	disruption *policyv1.PodDisruptionBudget
	deployment *appsv1.Deployment
	// monitor is of a kind that may not be installed; nil: not asked for.
	monitor *unstructured.Unstructured
}

// objects are the children in the order in which they are applied.
func (w *worker) objects() []client.Object {
	return []client.Object{w.secret, w.account, w.network, w.disruption, w.deployment}
}

// renderWorker makes the children of the product's worker, where it has one.
func (r *productRun) renderWorker(context.Context) error {
	kind := r.kind.worker
	if kind == nil {
		return nil
	}
	_, _, connections := connections(&r.platform.Spec, r.kind, r.spec)
	told := kind.tell(r, r.own.binding(r.postgres, connections))
	data, err := json.MarshalIndent(told, "", "  ")
	if err != nil {
		return fmt.Errorf("render configuration of the workers: %w", err)
	}
	spec, hash := kind.pick(&r.platform.Spec.Products), checksum(told)
	r.worker = renderWorker(workerInput{
		platform: r.platform, kind: r.kind, product: r.spec, spec: spec, image: r.defaults.image(kind.name, spec.image, kind.image),
		configName: configPrefix(r.platform.Name, kind.name) + hash, configHash: hash, config: data,
	})
	return nil
}

// renderWorker is pure.
func renderWorker(in workerInput) *worker {
	kind := in.kind.worker
	w := &worker{
		secret:     &corev1.Secret{ObjectMeta: in.meta(), Type: corev1.SecretTypeOpaque, Data: map[string][]byte{kind.file: in.config}},
		account:    &corev1.ServiceAccount{ObjectMeta: in.meta(), AutomountServiceAccountToken: ptr.To(false)},
		network:    &networkingv1.NetworkPolicy{ObjectMeta: in.meta(), Spec: in.network()},
		disruption: &policyv1.PodDisruptionBudget{ObjectMeta: in.meta(), Spec: disruptionOf(in.selector())},
		deployment: &appsv1.Deployment{ObjectMeta: in.meta(), Spec: rolling(in.selector(), in.meta().Labels, in.configHash, in.pod())},
		monitor:    monitorOf(podMonitorKind, "podMetricsEndpoints", in.product, in.meta(), in.selector()),
	}
	w.secret.Name = in.configName
	w.deployment.Spec.Replicas = ptr.To(max(in.spec.replicas, 1))
	return w
}

func (in *workerInput) meta() metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: workloadName(in.platform.Name, in.kind.worker.name), Namespace: in.platform.Namespace,
		Labels: objectLabels(in.platform.Name, in.kind.worker.name),
	}
}

func (in *workerInput) selector() map[string]string {
	return selectorLabels(in.platform.Name, in.kind.worker.name)
}

// network lets metrics be read and nothing else in. What a tenant's work connects to may be anywhere: egress is left open.
func (in *workerInput) network() networkingv1.NetworkPolicySpec {
	return networkingv1.NetworkPolicySpec{
		PodSelector: metav1.LabelSelector{MatchLabels: in.selector()},
		PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
		Ingress: []networkingv1.NetworkPolicyIngressRule{{
			From:  []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{}}},
			Ports: ports(corev1.ProtocolTCP, config.MetricsPort),
		}},
	}
}

func (in *workerInput) pod() corev1.PodSpec {
	kind := in.kind.worker
	volumes, mounts := configVolumes(in.platform, in.kind, in.configName, kind.dir)
	return corev1.PodSpec{
		ServiceAccountName:            in.meta().Name,
		AutomountServiceAccountToken:  ptr.To(false),
		EnableServiceLinks:            ptr.To(false),
		TerminationGracePeriodSeconds: ptr.To(kind.grace),
		SecurityContext:               podSecurity(),
		TopologySpreadConstraints:     spreadOver(in.selector()),
		Volumes:                       volumes,
		Containers: []corev1.Container{{
			Name: containerName, Image: in.image, ImagePullPolicy: corev1.PullIfNotPresent,
			Resources: resourcesOf(&backendType{sizing: kind.sizing}, &v1alpha1.ManagedBackend{Resources: in.spec.resources}),
			Env:       memoryLimit(), VolumeMounts: mounts,
			Ports:                    containerPorts(),
			StartupProbe:             probe(httpProbe(config.LivePath, portHTTP), 1, 2, 600),
			ReadinessProbe:           probe(httpProbe(config.ReadyPath, portHTTP), 2, 2, 2),
			LivenessProbe:            probe(httpProbe(config.LivePath, portHTTP), 10, 5, 3),
			TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
			SecurityContext:          containerSecurity(),
		}},
	}
}

// configVolumes are a component's file, and what changes beside it while it runs.
func configVolumes(p *v1alpha1.Platform, kind *productType, secret, dir string) ([]corev1.Volume, []corev1.VolumeMount) {
	volumes := []corev1.Volume{{Name: volumeConfig, VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
		SecretName: secret, DefaultMode: ptr.To[int32](0o440),
	}}}}
	mounts := []corev1.VolumeMount{{Name: volumeConfig, MountPath: dir, ReadOnly: true}}
	if kind.bindingsDir != "" {
		volumes = append(volumes, corev1.Volume{Name: volumeBindings, VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
			SecretName: p.ProductBindingsName(kind.name), DefaultMode: ptr.To[int32](0o440), Optional: ptr.To(true),
		}}})
		mounts = append(mounts, corev1.VolumeMount{Name: volumeBindings, MountPath: kind.bindingsDir, ReadOnly: true})
	}
	return volumes, mounts
}

// rolling is a Deployment of which a new Pod is Ready before an old one goes.
func rolling(selector, labels map[string]string, hash string, pod corev1.PodSpec) appsv1.DeploymentSpec {
	return appsv1.DeploymentSpec{
		RevisionHistoryLimit: ptr.To[int32](2), ProgressDeadlineSeconds: ptr.To[int32](600),
		Selector: &metav1.LabelSelector{MatchLabels: selector},
		Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{
			MaxUnavailable: ptr.To(intstr.FromInt32(0)), MaxSurge: ptr.To(intstr.FromString("25%")),
		}},
		Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: map[string]string{annotationChecksum: hash}}, Spec: pod,
		},
	}
}
