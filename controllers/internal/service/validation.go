// SPDX-License-Identifier: Apache-2.0

package service

import (
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/validation"
)

// Validated returns the service kind with its check.
func (t *Type) Validated() validation.Kind {
	return validation.Kind{Like: t.New(), Check: func(obj client.Object) field.ErrorList {
		o, ok := obj.(Object)
		if !ok {
			return nil
		}
		return t.check(o)
	}}
}

// check returns everything that is invalid in what all services share, and in the worker.
func (t *Type) check(o Object) field.ErrorList {
	out := validate(o.ServiceSpec())
	if t.Worker != nil {
		worker := t.Worker.Spec(o)
		out = append(out, validation.Image("spec.worker.image", worker.Image)...)
		out = append(out, validation.Resources("spec.worker.resources", worker.Resources)...)
	}
	return out
}

func validate(spec *common.ServiceSpec) field.ErrorList {
	out := validation.Image("spec.image", spec.Image)
	out = append(out, validation.Resources("spec.resources", spec.Resources)...)
	if spec.Ingress != nil {
		out = append(out, validation.Annotations("spec.ingress.annotations", spec.Ingress.Annotations)...)
	}
	if spec.HTTPRoute != nil {
		out = append(out, validation.Hostnames("spec.httpRoute.hostnames", spec.HTTPRoute.Hostnames)...)
	}
	if spec.ServiceMonitor != nil {
		out = append(out, validation.Labels("spec.serviceMonitor.labels", spec.ServiceMonitor.Labels)...)
	}
	return append(out, validation.Peers("spec.allowFrom", spec.AllowFrom)...)
}
