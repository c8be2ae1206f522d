// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/itechsmart/operator/controllers/internal/refs"
)

// How a workload's Pods refer to a core Secret, the binding way first.
const (
	viaEnvironment = "Environment"
	viaVolume      = "Volume"
	viaRegistry    = "Registry"
)

// Annotations of the cached workloads, which have nothing else. They are never sent to the API server.
const (
	slimUses   = "cached.vault.itechsmart.dev/uses" // "name=via,…", sorted; always there
	slimRolled = "cached.vault.itechsmart.dev/rolled"
)

// workloadKinds returns the kinds whose Pods may refer to a destination. Jobs end by themselves, and bare Pods have no
// owner to restart them: neither is watched.
func workloadKinds() map[string]client.Object {
	return map[string]client.Object{
		"Deployment": &appsv1.Deployment{}, "StatefulSet": &appsv1.StatefulSet{}, "DaemonSet": &appsv1.DaemonSet{}, "CronJob": &batchv1.CronJob{},
	}
}

// slim reduces a workload to the core Secrets that its Pods refer to, and the versions that they were restarted for: a few
// hundred bytes for each workload of the cluster.
func slim(obj any) (any, error) {
	if known, ok := obj.(client.Object); ok {
		if _, done := known.GetAnnotations()[slimUses]; done {
			return obj, nil // client-go may transform an object again
		}
	}
	switch o := obj.(type) {
	case *appsv1.Deployment:
		replicas := int32(1)
		if o.Spec.Replicas != nil {
			replicas = *o.Spec.Replicas
		}
		s := o.Status
		rolled := s.ObservedGeneration >= o.Generation && s.UpdatedReplicas >= replicas && s.Replicas == s.UpdatedReplicas && s.AvailableReplicas >= replicas
		return &appsv1.Deployment{ObjectMeta: slimMeta(&o.ObjectMeta, &o.Spec.Template, rolled)}, nil
	case *appsv1.StatefulSet:
		replicas := int32(1)
		if o.Spec.Replicas != nil {
			replicas = *o.Spec.Replicas
		}
		s := o.Status
		rolled := s.ObservedGeneration >= o.Generation && s.UpdatedReplicas >= replicas && s.ReadyReplicas >= replicas
		return &appsv1.StatefulSet{ObjectMeta: slimMeta(&o.ObjectMeta, &o.Spec.Template, rolled)}, nil
	case *appsv1.DaemonSet:
		s := o.Status
		rolled := s.ObservedGeneration >= o.Generation && s.UpdatedNumberScheduled >= s.DesiredNumberScheduled && s.NumberReady >= s.DesiredNumberScheduled
		return &appsv1.DaemonSet{ObjectMeta: slimMeta(&o.ObjectMeta, &o.Spec.Template, rolled)}, nil
	case *batchv1.CronJob:
		return &batchv1.CronJob{ObjectMeta: slimMeta(&o.ObjectMeta, &o.Spec.JobTemplate.Spec.Template, false)}, nil
	default:
		return obj, nil
	}
}

func slimMeta(meta *metav1.ObjectMeta, template *corev1.PodTemplateSpec, rolled bool) metav1.ObjectMeta {
	annotations := map[string]string{}
	for key, value := range template.Annotations {
		if strings.HasPrefix(key, annotationRestart) {
			annotations[key] = value
		}
	}
	uses := usesOf(&template.Spec)
	var list []string
	for _, name := range slices.Sorted(maps.Keys(uses)) {
		list = append(list, name+"="+uses[name])
	}
	annotations[slimUses] = strings.Join(list, ",")
	if rolled {
		annotations[slimRolled] = "true"
	}
	return metav1.ObjectMeta{Name: meta.Name, Namespace: meta.Namespace, UID: meta.UID, ResourceVersion: meta.ResourceVersion, Annotations: annotations}
}

// usesOf returns which core Secrets the Pods of a template refer to, and how.
func usesOf(pod *corev1.PodSpec) map[string]string {
	out := map[string]string{}
	for _, pull := range pod.ImagePullSecrets {
		out[pull.Name] = viaRegistry
	}
	for i := range pod.Volumes {
		volume := &pod.Volumes[i]
		if volume.Secret != nil {
			out[volume.Secret.SecretName] = viaVolume
		}
		if volume.Projected != nil {
			for _, source := range volume.Projected.Sources {
				if source.Secret != nil {
					out[source.Secret.Name] = viaVolume
				}
			}
		}
	}
	for _, containers := range [][]corev1.Container{pod.InitContainers, pod.Containers} {
		for i := range containers {
			for _, env := range containers[i].Env {
				if env.ValueFrom != nil && env.ValueFrom.SecretKeyRef != nil {
					out[env.ValueFrom.SecretKeyRef.Name] = viaEnvironment
				}
			}
			for _, from := range containers[i].EnvFrom {
				if from.SecretRef != nil {
					out[from.SecretRef.Name] = viaEnvironment
				}
			}
		}
	}
	return out
}

// parseUses reads the annotation of a cached workload.
func parseUses(obj client.Object) map[string]string {
	text := obj.GetAnnotations()[slimUses]
	if text == "" {
		return nil
	}
	out := map[string]string{}
	for entry := range strings.SplitSeq(text, ",") {
		name, via, _ := strings.Cut(entry, "=")
		out[name] = via
	}
	return out
}

// indexWorkloads indexes workloads by the core Secrets that their Pods refer to.
func indexWorkloads(ctx context.Context, indexer client.FieldIndexer) error {
	for _, kind := range workloadKinds() {
		err := indexer.IndexField(ctx, kind, indexUses, func(obj client.Object) []string {
			var out []string
			for name := range parseUses(obj) {
				out = append(out, refs.Bucket(obj.GetNamespace()+"/"+name))
			}
			slices.Sort(out)
			return slices.Compact(out)
		})
		if err != nil {
			return fmt.Errorf("index %T by Secrets: %w", kind, err)
		}
	}
	return nil
}
