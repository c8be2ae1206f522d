// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
	"github.com/itechsmart/operator/controllers/internal/service"
)

func schemaOfKind(t *testing.T, kind *service.Type, base string) ctrltest.Schema {
	t.Helper()
	gvk, err := apiutil.GVKForObject(kind.New(), ctrltest.Scheme())
	if err != nil {
		t.Fatal(err)
	}
	return ctrltest.Schema{Kind: gvk, Base: base}
}

// Each rule that the service kinds of all products have in common has a case that it accepts and one that it refuses.
func TestServiceSchemaOnCreate(t *testing.T) {
	eachService(t, func(t *testing.T, kind *service.Type) {
		schemaOfKind(t, kind, "").OnCreate(t, []ctrltest.Creation{
			{"no Platform", `replicas: 1`, "spec.platformRef"}, {"a Platform without a name", `platformRef: {}`, "spec.platformRef"},
		})
		schemaOfKind(t, kind, "platformRef: {name: main}").OnCreate(t, []ctrltest.Creation{
			{"the least", ``, ""},
			{"replicas", `replicas: 3`, ""},
			{"no replica", `replicas: 0`, "spec.replicas"},
			{"autoscaling", `autoscaling: {minReplicas: 2, maxReplicas: 2}`, ""},
			{"autoscaling downwards", `autoscaling: {minReplicas: 3, maxReplicas: 2}`, "minReplicas must not exceed maxReplicas"},
			{"autoscaling without a bound", `autoscaling: {minReplicas: 3}`, "spec.autoscaling.maxReplicas"},
			{"an ingress", `ingress: {host: x.example.com}`, ""},
			{"an ingress without a host", `ingress: {}`, "spec.ingress.host"},
			{"an ingress with a URL", `ingress: {host: "https://x"}`, "spec.ingress.host"},
			{"a route", `httpRoute: {parentRefs: [{name: gw}]}`, ""},
			{"a route without a Gateway", `httpRoute: {parentRefs: []}`, "spec.httpRoute.parentRefs"},
			{"a monitor", `serviceMonitor: {}`, ""},
			{"a monitor that never rests", `serviceMonitor: {interval: 10ms}`, "interval must be at least 1s"},
			{"proxies", `trustedProxies: ["10.0.0.0/8", "fd00::/8"]`, ""},
			{"a proxy that is no CIDR", `trustedProxies: ["10.0.0.1"]`, "trustedProxies must be CIDRs"},
			{"a log level", `logLevel: debug`, ""},
			{"an unknown log level", `logLevel: loud`, "spec.logLevel"},
			{"Delete", `deletionPolicy: Delete`, ""},
			{"an unknown deletionPolicy", `deletionPolicy: Forget`, "spec.deletionPolicy"},
			{"an image", `image: "example.com/x:1"`, ""},
			{"no image", `image: ""`, "spec.image"},
		})
	})
}

func TestServiceSchemaOnUpdate(t *testing.T) {
	eachService(t, func(t *testing.T, kind *service.Type) {
		schemaOfKind(t, kind, "").OnUpdate(t, []ctrltest.Update{
			{"more replicas", `platformRef: {name: main}`, `platformRef: {name: main}, replicas: 2`, ""},
			{"another Platform", `platformRef: {name: main}`, `platformRef: {name: second}`, "platformRef is immutable"},
		})
	})
}

func TestServiceDefaults(t *testing.T) {
	eachService(t, func(t *testing.T, kind *service.Type) {
		o := kind.New()
		schemaOfKind(t, kind, "platformRef: {name: main}").Defaulted(t, `serviceMonitor: {}, autoscaling: {maxReplicas: 2}`, o)
		spec := o.ServiceSpec()
		if spec.Replicas != 1 || spec.LogLevel != "info" || spec.DeletionPolicy != common.DeletionRetain || spec.ServiceMonitor.Interval.Seconds() != 30 ||
			*spec.Autoscaling != (common.Autoscaling{MinReplicas: 1, MaxReplicas: 2, CPUUtilization: 70}) {
			t.Errorf("%+v", spec)
		}
	})
}

// TestKindsThatTheClusterLacks: a monitor without its CRD is left out, an HTTPRoute without its CRD is reported: without it
// the service cannot be reached.
func TestKindsThatTheClusterLacks(t *testing.T) {
	eachService(t, func(t *testing.T, kind *service.Type) {
		w, _ := newWorld(t)
		o := w.Service(kind, "mine", func(o service.Object) { o.ServiceSpec().ServiceMonitor = &common.ServiceMonitor{} })
		w.Succeeds(o)
		w.Edit(o, func() {
			o.ServiceSpec().HTTPRoute = &common.ServiceHTTPRoute{ParentRefs: []common.GatewayReference{{Name: "public"}}}
		})
		w.Says(o, common.ReasonReferenceNotFound, "spec.httpRoute: the cluster has no HTTPRoute; install the CRDs of the Gateway API, or use spec.ingress")
		w.Edit(o, func() { o.ServiceSpec().HTTPRoute = nil })
		w.Succeeds(o)
	})
}
