// SPDX-License-Identifier: Apache-2.0

package dataflow

import (
	"encoding/json"
	"fmt"
	"path"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	dataflowv1alpha1 "github.com/itechsmart/operator/api/dataflow/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/apply"
	"github.com/itechsmart/operator/controllers/internal/workload"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

const (
	defaultRetryInitial = 250 * time.Millisecond
	defaultRetryMax     = 30 * time.Second
	// drainSeconds is the time in which a worker writes out what it has read, with a margin.
	drainSeconds = 40
	user         = 65532
)

// desired has all that rendering a Pipeline's children needs.
type desired struct {
	pipeline *dataflowv1alpha1.Pipeline
	config   *config.Pipeline
	hash     string // of the configuration
	tested   string // of the configuration and its tests
	replicas int32
	image    string
	private  bool // the workers may call private addresses
}

func objectMeta(p *dataflowv1alpha1.Pipeline, name, component string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: p.Namespace, Labels: labelsOf(p, component)}
}

// configSecret returns the Secret with the one file that a worker reads. The file has credentials.
func (d *desired) configSecret() (client.Object, error) {
	data, err := json.MarshalIndent(d.config, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("render configuration: %w", err)
	}
	return &corev1.Secret{
		ObjectMeta: objectMeta(d.pipeline, configName(d.pipeline, d.hash), componentWorker),
		Type:       apply.SecretTypeConfiguration,
		Data:       map[string][]byte{config.FileName: data},
	}, nil
}

// deployment returns the Deployment of the workers. With Recreate the old workers write out and acknowledge what they have
// read before new ones resume from there.
func (d *desired) deployment() client.Object {
	p := d.pipeline
	labels := labelsOf(p, componentWorker)
	meta := objectMeta(p, workerName(p), componentWorker)
	meta.Annotations = map[string]string{
		annotationGeneration: strconv.FormatInt(p.Generation, 10), annotationConfigHash: d.hash, annotationTested: d.tested,
	}
	pod := d.podSpec()
	pod.Containers[0].LivenessProbe = httpProbe(config.HealthPath, 10, 3)
	pod.Containers[0].ReadinessProbe = httpProbe(config.ReadyPath, 2, 2)
	pod.Containers[0].Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: config.Port, Protocol: corev1.ProtocolTCP}}
	return &appsv1.Deployment{
		ObjectMeta: meta,
		Spec: appsv1.DeploymentSpec{
			Replicas: ptr.To(d.replicas), RevisionHistoryLimit: ptr.To[int32](2),
			Selector: &metav1.LabelSelector{MatchLabels: workerLabels(p)},
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: map[string]string{annotationConfigHash: d.hash}},
				Spec:       pod,
			},
		},
	}
}

// testJob returns the Job that runs spec.tests on a configuration before it rolls out.
func (d *desired) testJob() client.Object {
	pod := d.podSpec()
	pod.RestartPolicy = corev1.RestartPolicyNever
	pod.TerminationGracePeriodSeconds = ptr.To[int64](5)
	pod.Containers[0].Args = []string{"check", "--config", path.Join(configDir, config.FileName)}
	pod.Containers[0].TerminationMessagePolicy = corev1.TerminationMessageReadFile
	return &batchv1.Job{
		ObjectMeta: objectMeta(d.pipeline, testName(d.pipeline, d.tested), componentTest),
		Spec: batchv1.JobSpec{
			BackoffLimit: ptr.To[int32](2), ActiveDeadlineSeconds: ptr.To[int64](600),
			// A failing test would fail again: only a Pod that was lost is replaced.
			PodFailurePolicy: &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{
				Action:      batchv1.PodFailurePolicyActionFailJob,
				OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{1}},
			}}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labelsOf(d.pipeline, componentTest)}, Spec: pod},
		},
	}
}

func (d *desired) podSpec() corev1.PodSpec {
	volumes := []corev1.Volume{
		{Name: "config", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: configName(d.pipeline, d.hash), DefaultMode: ptr.To[int32](0o440)}}},
		{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: ptr.To(resource.MustParse("256Mi"))}}},
	}
	mounts := []corev1.VolumeMount{{Name: "config", MountPath: configDir, ReadOnly: true}, {Name: "tmp", MountPath: "/tmp"}}
	for i, claim := range d.pipeline.Spec.Worker.VolumeClaims {
		name := fmt.Sprintf("data-%d", i)
		volumes = append(volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
		}})
		mounts = append(mounts, corev1.VolumeMount{Name: name, MountPath: path.Join("/data", claim)})
	}
	return corev1.PodSpec{
		AutomountServiceAccountToken:  ptr.To(false), // a worker is no client of Kubernetes
		EnableServiceLinks:            ptr.To(false),
		TerminationGracePeriodSeconds: ptr.To[int64](drainSeconds),
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To[int64](user), RunAsGroup: ptr.To[int64](user), FSGroup: ptr.To[int64](user),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		Volumes: volumes,
		Containers: []corev1.Container{{
			Name: containerName, Image: d.image, ImagePullPolicy: corev1.PullIfNotPresent,
			Args:      []string{"run", "--config", path.Join(configDir, config.FileName)},
			Env:       d.environment(),
			Resources: workerSizing.Resources(d.pipeline.Spec.Worker.Resources), VolumeMounts: mounts,
			SecurityContext: &corev1.SecurityContext{
				AllowPrivilegeEscalation: ptr.To(false), ReadOnlyRootFilesystem: ptr.To(true),
				Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			},
		}},
	}
}

func (d *desired) environment() []corev1.EnvVar {
	out := []corev1.EnvVar{memoryLimit()}
	if d.private {
		out = append(out, corev1.EnvVar{Name: "ITECHSMART_ALLOW_PRIVATE_ADDRESSES", Value: "true"})
	}
	return out
}

// memoryLimit limits Go's heap to what the container may use.
func memoryLimit() corev1.EnvVar {
	return corev1.EnvVar{Name: "GOMEMLIMIT", ValueFrom: &corev1.EnvVarSource{
		ResourceFieldRef: &corev1.ResourceFieldSelector{ContainerName: containerName, Resource: "limits.memory", Divisor: resource.MustParse("1")},
	}}
}

// workerSizing is the default of spec.worker.resources.
var workerSizing = workload.Sizing{CPU: "50m", Memory: "64Mi", MemoryLimit: "512Mi"}

func httpProbe(probePath string, period, failures int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: probePath, Port: intstr.FromString("http"), Scheme: corev1.URISchemeHTTP}},
		PeriodSeconds: period, FailureThreshold: failures, TimeoutSeconds: 2, SuccessThreshold: 1,
	}
}

// service returns the headless Service by which Prometheus finds the workers.
func (d *desired) service() client.Object {
	return &corev1.Service{
		ObjectMeta: objectMeta(d.pipeline, workerName(d.pipeline), componentWorker),
		Spec: corev1.ServiceSpec{
			ClusterIP: corev1.ClusterIPNone, Selector: workerLabels(d.pipeline), PublishNotReadyAddresses: true,
			Ports: []corev1.ServicePort{{Name: "http", Port: config.Port, TargetPort: intstr.FromString("http"), Protocol: corev1.ProtocolTCP}},
		},
	}
}

// disruptionBudget returns a budget that lets a node drain evict one worker at a time.
func (d *desired) disruptionBudget() client.Object {
	return &policyv1.PodDisruptionBudget{
		ObjectMeta: objectMeta(d.pipeline, workerName(d.pipeline), componentWorker),
		Spec: policyv1.PodDisruptionBudgetSpec{
			MaxUnavailable: ptr.To(intstr.FromInt32(1)), Selector: &metav1.LabelSelector{MatchLabels: workerLabels(d.pipeline)},
		},
	}
}

// networkPolicy returns a policy that allows ingress to the workers' one port only. Egress is open: a Pipeline may connect
// to any address.
func (d *desired) networkPolicy() client.Object {
	port := intstr.FromInt32(config.Port)
	return &networkingv1.NetworkPolicy{
		ObjectMeta: objectMeta(d.pipeline, workerName(d.pipeline), componentWorker),
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: workerLabels(d.pipeline)},
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
			Ingress: []networkingv1.NetworkPolicyIngressRule{{
				From:  []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{}}},
				Ports: []networkingv1.NetworkPolicyPort{{Protocol: ptr.To(corev1.ProtocolTCP), Port: &port}},
			}},
		},
	}
}
