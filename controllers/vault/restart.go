// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	vaultv1alpha1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/refs"
)

// maxConsumers bounds the rows in the status.
const maxConsumers = 50

// restart sets an annotation with the version on every target's Pod template, once per version, and the workload's
// controller does the rest. The first version restarts nothing: no Pod has read another.
func (p *pass) restart(ctx context.Context) error {
	status := &p.secret.Status
	if p.written == 0 || p.written == status.RestartedVersion {
		return nil
	}
	if status.RestartedVersion != 0 {
		for i, target := range p.secret.Spec.RestartTargets {
			if err := p.restartOne(ctx, target); err != nil {
				return fmt.Errorf("spec.restartTargets[%d]: %w", i, err)
			}
		}
	}
	status.RestartedVersion = p.written
	return nil
}

func (p *pass) restartOne(ctx context.Context, target vaultv1alpha1.WorkloadReference) error {
	found, ok := workloadKinds()[target.Kind]
	if !ok {
		return nil // the API server rejects other kinds
	}
	err := p.c.Workloads.Get(ctx, client.ObjectKey{Namespace: p.secret.Namespace, Name: target.Name}, found)
	if apierrors.IsNotFound(err) {
		return nil // once created, it reads this version
	}
	if err != nil {
		return fmt.Errorf("read %s %s: %w", target.Kind, target.Name, err)
	}
	key, version := restartAnnotation(p.secret), strconv.FormatInt(p.written, 10)
	if found.GetAnnotations()[key] == version {
		return nil
	}
	// Only the annotation is owned. The UID keeps the apply from creating a workload that was just deleted.
	patch := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": appsv1.SchemeGroupVersion.String(), "kind": target.Kind,
		"metadata": map[string]any{"name": target.Name, "namespace": p.secret.Namespace, "uid": string(found.GetUID())},
		"spec":     map[string]any{"template": map[string]any{"metadata": map[string]any{"annotations": map[string]any{key: version}}}},
	}}
	err = p.c.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(patch), client.FieldOwner(fieldOwnerRestart+instance(p.secret.Name)), client.ForceOwnership)
	switch {
	case apierrors.IsNotFound(err), apierrors.IsConflict(err):
		return nil // it was deleted, or created anew
	case err != nil:
		return fmt.Errorf("restart %s %s: %w", target.Kind, target.Name, err)
	}
	return nil
}

// consumers records which workloads refer to the destination, and at which version.
func (p *pass) consumers(ctx context.Context) {
	status := &p.secret.Status
	name := p.secret.DestinationName()
	if name == "" || p.c.Workloads == nil {
		status.Consumers, status.ConsumerCount = nil, 0
		return
	}
	var rows []vaultv1alpha1.Consumer
	for kind, list := range map[string]client.ObjectList{
		"Deployment": &appsv1.DeploymentList{}, "StatefulSet": &appsv1.StatefulSetList{}, "DaemonSet": &appsv1.DaemonSetList{}, "CronJob": &batchv1.CronJobList{},
	} {
		err := p.c.Workloads.List(ctx, list, client.InNamespace(p.secret.Namespace), client.MatchingFields{indexUses: refs.Bucket(p.secret.Namespace + "/" + name)})
		if err != nil {
			return // the cache is not there yet: the rows stay
		}
		_ = meta.EachListItem(list, func(item runtime.Object) error {
			if workload, ok := item.(client.Object); ok && parseUses(workload)[name] != "" {
				rows = append(rows, p.consumer(kind, workload, name))
			}
			return nil
		})
	}
	slices.SortFunc(rows, func(a, b vaultv1alpha1.Consumer) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	status.ConsumerCount = int32(len(rows))
	status.Consumers = rows[:min(len(rows), maxConsumers)]
}

func (p *pass) consumer(kind string, workload client.Object, secret string) vaultv1alpha1.Consumer {
	row := vaultv1alpha1.Consumer{Kind: kind, Name: workload.GetName(), Via: parseUses(workload)[secret]}
	annotations := workload.GetAnnotations()
	restarted, _ := strconv.ParseInt(annotations[restartAnnotation(p.secret)], 10, 64)
	switch {
	case row.Via == viaVolume:
		row.Version = p.secret.Status.CurrentVersion
	case restarted != 0 && annotations[slimRolled] == "true":
		row.Version = restarted
	}
	return row
}
