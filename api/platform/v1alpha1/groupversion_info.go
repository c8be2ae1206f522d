// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 is the API group platform.itechsmart.dev: the
// Platform that a tenant's products run on.
// +kubebuilder:object:generate=true
// +groupName=platform.itechsmart.dev
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var (
	// GroupVersion is this API's group and version.
	GroupVersion  = schema.GroupVersion{Group: "platform.itechsmart.dev", Version: "v1alpha1"}
	schemeBuilder = runtime.NewSchemeBuilder(func(scheme *runtime.Scheme) error {
		scheme.AddKnownTypes(GroupVersion, &Platform{}, &PlatformList{})
		metav1.AddToGroupVersion(scheme, GroupVersion)
		return nil
	})
	// AddToScheme registers the group's kinds.
	AddToScheme = schemeBuilder.AddToScheme
)
