// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"maps"
	"net/url"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/config"
)

// Kinds of a product's children that a cluster may lack, with their versions by preference.
var (
	routeKind      = operatedKind{group: "gateway.networking.k8s.io", kind: "HTTPRoute", versions: []string{"v1", "v1beta1"}}
	monitorKind    = operatedKind{group: "monitoring.coreos.com", kind: "ServiceMonitor", versions: []string{"v1"}}
	podMonitorKind = operatedKind{group: "monitoring.coreos.com", kind: "PodMonitor", versions: []string{"v1"}} // workers have no Service
)

func (in *serviceInput) servicePorts() corev1.ServiceSpec {
	return corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, Selector: in.selector(), Ports: []corev1.ServicePort{
		{Name: portHTTP, Port: config.Port, TargetPort: intstr.FromString(portHTTP), Protocol: corev1.ProtocolTCP, AppProtocol: ptr.To("http")},
		{Name: portMetrics, Port: config.MetricsPort, TargetPort: intstr.FromString(portMetrics), Protocol: corev1.ProtocolTCP, AppProtocol: ptr.To("http")},
	}}
}

// network lets in the namespace's Pods, the manager and whom the specification names, and out to what the service needs.
func (in *serviceInput) network() networkingv1.NetworkPolicySpec {
	callers := []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{}}}
	if in.defaults.managerNamespace != "" {
		callers = append(callers, networkingv1.NetworkPolicyPeer{NamespaceSelector: &metav1.LabelSelector{
			MatchLabels: map[string]string{corev1.LabelMetadataName: in.defaults.managerNamespace},
		}})
	}
	callers = append(callers, in.spec.AllowFrom...)
	// Prometheus may run in any namespace; its port tells nothing that is secret.
	collectors := []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{}}}
	if in.spec.ServiceMonitor != nil {
		collectors = []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{}}}
	}
	return networkingv1.NetworkPolicySpec{
		PodSelector: metav1.LabelSelector{MatchLabels: in.selector()},
		PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
		Ingress: []networkingv1.NetworkPolicyIngressRule{
			{From: callers, Ports: ports(corev1.ProtocolTCP, config.Port)},
			{From: collectors, Ports: ports(corev1.ProtocolTCP, config.MetricsPort)},
		},
		Egress: in.egresses(),
	}
}

func (in *serviceInput) egresses() []networkingv1.NetworkPolicyEgressRule {
	if in.kind.calls {
		return []networkingv1.NetworkPolicyEgressRule{{}} // a server that a tenant names may be anywhere
	}
	out := []networkingv1.NetworkPolicyEgressRule{
		{Ports: append(ports(corev1.ProtocolUDP, 53), ports(corev1.ProtocolTCP, 53)...)},
		// The API server is outside of the Pods' network, behind its Service's port or its own.
		{Ports: ports(corev1.ProtocolTCP, 443, 6443)},
		in.egress(postgresqlBackend, in.postgres),
	}
	if in.redis.Type != "" {
		out = append(out, in.egress(redisBackend, in.redis))
	}
	if in.rabbitmq.Type != "" {
		out = append(out, in.egress(rabbitmqBackend, in.rabbitmq))
	}
	if in.objects.Type != "" {
		out = append(out, in.egress(objectStorageBackend, in.objects))
	}
	if t := in.platform.Spec.Tracing; t != nil {
		out = append(out, networkingv1.NetworkPolicyEgressRule{Ports: ports(corev1.ProtocolTCP, portOf(t.Endpoint))})
	}
	return out
}

// portOf is a URL's port, or its scheme's.
func portOf(text string) int32 {
	u, err := url.Parse(text)
	if err != nil { // the schema lets none through
		return 443
	}
	if port, err := strconv.ParseUint(u.Port(), 10, 16); err == nil {
		return int32(port)
	}
	if u.Scheme == "http" {
		return 80
	}
	return 443
}

// egress lets out to a backend: to its Pods where the operator runs them, else to its port anywhere.
func (in *serviceInput) egress(kind *backendType, b backend.Binding) networkingv1.NetworkPolicyEgressRule {
	if b.Provider == v1alpha1.ModeManaged {
		return networkingv1.NetworkPolicyEgressRule{
			Ports: ports(corev1.ProtocolTCP, kind.port),
			To:    []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{MatchLabels: selectorLabels(in.platform.Name, kind.name)}}},
		}
	}
	port, err := strconv.ParseInt(b.Port, 10, 32)
	if err != nil { // a binding is checked before it is used
		port = int64(kind.port)
	}
	return networkingv1.NetworkPolicyEgressRule{Ports: ports(corev1.ProtocolTCP, int32(port))}
}

func ports(protocol corev1.Protocol, numbers ...int32) []networkingv1.NetworkPolicyPort {
	var out []networkingv1.NetworkPolicyPort
	for _, number := range numbers {
		out = append(out, networkingv1.NetworkPolicyPort{Protocol: ptr.To(protocol), Port: ptr.To(intstr.FromInt32(number))})
	}
	return out
}

func (in *serviceInput) ingress() *networkingv1.Ingress {
	want := in.spec.Ingress
	if want == nil {
		return nil
	}
	out := &networkingv1.Ingress{ObjectMeta: in.meta(), Spec: networkingv1.IngressSpec{Rules: []networkingv1.IngressRule{{
		Host: want.Host,
		IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{
			Path: "/", PathType: ptr.To(networkingv1.PathTypePrefix),
			Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{
				Name: in.name(), Port: networkingv1.ServiceBackendPort{Name: portHTTP},
			}},
		}}}},
	}}}}
	out.Annotations = want.Annotations
	if want.ClassName != "" {
		out.Spec.IngressClassName = ptr.To(want.ClassName)
	}
	if want.TLSSecretName != "" {
		out.Spec.TLS = []networkingv1.IngressTLS{{Hosts: []string{want.Host}, SecretName: want.TLSSecretName}}
	}
	return out
}

// route is an HTTPRoute, of the version that the cluster serves.
func (in *serviceInput) route() *unstructured.Unstructured {
	want := in.spec.HTTPRoute
	if want == nil {
		return nil
	}
	var parents, hostnames []any
	for _, parent := range want.ParentRefs {
		ref := map[string]any{"name": parent.Name}
		if parent.Namespace != "" {
			ref["namespace"] = parent.Namespace
		}
		if parent.SectionName != "" {
			ref["sectionName"] = parent.SectionName
		}
		parents = append(parents, ref)
	}
	for _, hostname := range want.Hostnames {
		hostnames = append(hostnames, hostname)
	}
	spec := map[string]any{
		"parentRefs": parents,
		"rules": []any{map[string]any{
			"matches":     []any{map[string]any{"path": map[string]any{"type": "PathPrefix", "value": "/"}}},
			"backendRefs": []any{map[string]any{"name": in.name(), "port": int64(config.Port)}},
		}},
	}
	if len(hostnames) > 0 {
		spec["hostnames"] = hostnames
	}
	return objectOf(routeKind, in.meta(), spec, nil)
}

// monitor is a ServiceMonitor of the Prometheus operator.
func (in *serviceInput) monitor() *unstructured.Unstructured {
	return monitorOf(monitorKind, "endpoints", in.spec, in.meta(), in.selector())
}

// monitorOf has the metrics of what selector finds read; nil when the product asks for none.
func monitorOf(kind operatedKind, endpoints string, spec *v1alpha1.ProductSpec, meta metav1.ObjectMeta, labels map[string]string) *unstructured.Unstructured {
	want := spec.ServiceMonitor
	if want == nil {
		return nil
	}
	selector := map[string]any{}
	for key, value := range labels {
		selector[key] = value
	}
	endpoint := map[string]any{"port": portMetrics}
	if seconds := int64(want.Interval.Seconds()); seconds > 0 {
		endpoint["interval"] = strconv.FormatInt(seconds, 10) + "s" // Prometheus has no fractions
	}
	return objectOf(kind, meta, map[string]any{"selector": map[string]any{"matchLabels": selector}, endpoints: []any{endpoint}}, want.Labels)
}

// objectOf makes a resource of a kind that Go has no type for; more labels do not replace ours.
func objectOf(kind operatedKind, meta metav1.ObjectMeta, spec map[string]any, more map[string]string) *unstructured.Unstructured {
	obj := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	obj.SetGroupVersionKind(schema.GroupVersionKind{Group: kind.group, Version: kind.versions[0], Kind: kind.kind})
	obj.SetName(meta.Name)
	obj.SetNamespace(meta.Namespace)
	labels := maps.Clone(more)
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, meta.Labels)
	obj.SetLabels(labels)
	return obj
}
