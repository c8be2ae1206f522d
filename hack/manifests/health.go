// SPDX-License-Identifier: Apache-2.0

package main

import (
	_ "embed"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// health is the health check of every kind: all have the same conditions.
//
//go:embed health.lua
var health string

const (
	healthFile   = "argocd-cm.yaml"
	healthPrefix = "resource.customizations.health."
)

// writeHealth writes the health checks for Argo CD to dir, as a patch of its ConfigMap: one for each kind that has a CRD in crds.
// Argo CD reads no conditions of kinds that it does not know.
// The patch has no namespace, as in Argo CD's own manifests: kustomize finds what it patches by name and namespace.
func writeHealth(crds, dir string) error {
	found, err := readCRDs(crds)
	if err != nil {
		return err
	}
	patch := &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Name: "argocd-cm"},
		Data:       map[string]string{},
	}
	for _, crd := range found {
		patch.Data[healthPrefix+crd.Spec.Group+"_"+crd.Spec.Names.Kind] = health
	}
	return writeYAML(filepath.Join(dir, healthFile), patch)
}
