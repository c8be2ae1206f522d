// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"

	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/validation"
)

// validate returns everything that is invalid in a Platform. A pass checks each backend by itself, so that an invalid one does
// not hold up the others.
func validate(p *v1alpha1.Platform) field.ErrorList {
	var out field.ErrorList
	for _, kind := range backendTypes {
		spec := kind.pick(&p.Spec.Backends)
		switch {
		case spec == nil:
		case spec.Managed != nil && kind.server != nil:
			out = append(out, kind.validateManaged(fieldPath(kind.name, v1alpha1.ModeManaged), spec.Managed)...)
		case spec.Operated != nil && kind.operated != nil:
			out = append(out, kind.validateOperated(fieldPath(kind.name, v1alpha1.ModeOperated), spec.Operated)...)
		}
	}
	return out
}

func (t *backendType) validateManaged(path string, spec *v1alpha1.ManagedBackend) field.ErrorList {
	out := validation.Image(path+".image", spec.Image)
	out = append(out, validation.Resources(path+".resources", spec.Resources)...)
	out = append(out, storageSize(path, spec.Storage.Size)...)
	return append(out, t.validateConfig(path, settings(spec.Config))...)
}

func (t *backendType) validateOperated(path string, spec *v1alpha1.OperatedBackend) field.ErrorList {
	out := validation.Resources(path+".resources", spec.Resources)
	out = append(out, storageSize(path, spec.Storage.Size)...)
	return append(out, t.validateConfig(path, settings(spec.Config))...)
}

// storageSize refuses a volume without space. Zero is the default size.
func storageSize(path string, size resource.Quantity) field.ErrorList {
	if size.Sign() < 0 {
		return field.ErrorList{validation.Errorf(path+".storage.size", "must be more than zero")}
	}
	return nil
}
