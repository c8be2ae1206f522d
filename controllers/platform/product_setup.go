// SPDX-License-Identifier: Apache-2.0

package platform

import (
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
)

// autoscalerChanged is for HorizontalPodAutoscalers, which have no generation: their status is written every few seconds.
func autoscalerChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		was, wasOne := e.ObjectOld.(*autoscalingv2.HorizontalPodAutoscaler)
		is, isOne := e.ObjectNew.(*autoscalingv2.HorizontalPodAutoscaler)
		return !wasOne || !isOne || !equality.Semantic.DeepEqual(was.Spec, is.Spec) || !equality.Semantic.DeepEqual(was.Labels, is.Labels)
	}}
}
