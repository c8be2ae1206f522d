// SPDX-License-Identifier: Apache-2.0

package service

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

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/dynamic"
	"github.com/itechsmart/operator/controllers/internal/workload"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/config"
)

// Kinds of children that a cluster may lack, with their versions by preference.
var (
	routeKind      = dynamic.Kind{Group: "gateway.networking.k8s.io", Kind: "HTTPRoute", Versions: []string{"v1", "v1beta1"}}
	monitorKind    = dynamic.Kind{Group: "monitoring.coreos.com", Kind: "ServiceMonitor", Versions: []string{"v1"}}
	podMonitorKind = dynamic.Kind{Group: "monitoring.coreos.com", Kind: "PodMonitor", Versions: []string{"v1"}} // workers have no Service
)

func (in *input) servicePorts() corev1.ServiceSpec {
	return corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, Selector: in.selector(in.kind.Product), Ports: []corev1.ServicePort{
		{Name: portHTTP, Port: config.Port, TargetPort: intstr.FromString(portHTTP), Protocol: corev1.ProtocolTCP, AppProtocol: ptr.To("http")},
		{Name: portMetrics, Port: config.MetricsPort, TargetPort: intstr.FromString(portMetrics), Protocol: corev1.ProtocolTCP, AppProtocol: ptr.To("http")},
	}}
}

// network lets in the namespace's Pods, the manager and whom the specification names, and out to what the service needs.
func (in *input) network() networkingv1.NetworkPolicySpec {
	callers := []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{}}}
	if in.options.ManagerNamespace != "" {
		callers = append(callers, networkingv1.NetworkPolicyPeer{NamespaceSelector: &metav1.LabelSelector{
			MatchLabels: map[string]string{corev1.LabelMetadataName: in.options.ManagerNamespace},
		}})
	}
	callers = append(callers, in.spec.AllowFrom...)
	// Prometheus may run in any namespace; its port tells nothing that is secret.
	collectors := []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{}}}
	if in.spec.ServiceMonitor != nil {
		collectors = []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{}}}
	}
	return networkingv1.NetworkPolicySpec{
		PodSelector: metav1.LabelSelector{MatchLabels: in.selector(in.kind.Product)},
		PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
		Ingress: []networkingv1.NetworkPolicyIngressRule{
			{From: callers, Ports: workload.Ports(corev1.ProtocolTCP, config.Port)},
			{From: collectors, Ports: workload.Ports(corev1.ProtocolTCP, config.MetricsPort)},
		},
		Egress: in.egresses(),
	}
}

func (in *input) egresses() []networkingv1.NetworkPolicyEgressRule {
	if in.kind.OpenEgress {
		return []networkingv1.NetworkPolicyEgressRule{{}} // a server that a tenant names may be anywhere
	}
	out := []networkingv1.NetworkPolicyEgressRule{
		{Ports: append(workload.Ports(corev1.ProtocolUDP, 53), workload.Ports(corev1.ProtocolTCP, 53)...)},
		// The API server is outside of the Pods' network, behind its Service's port or its own.
		{Ports: workload.Ports(corev1.ProtocolTCP, 443, 6443)},
	}
	for _, server := range in.servers.all() {
		if rule := in.egress(server); rule != nil {
			out = append(out, *rule)
		}
	}
	if t := in.platform.Spec.Tracing; t != nil {
		out = append(out, networkingv1.NetworkPolicyEgressRule{Ports: workload.Ports(corev1.ProtocolTCP, portOf(t.Endpoint))})
	}
	return out
}

// portOf returns a URL's port, or its scheme's.
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
func (in *input) egress(server backend.Binding) *networkingv1.NetworkPolicyEgressRule {
	port, err := strconv.ParseInt(server.Port, 10, 32)
	if err != nil { // a binding is checked before it is written
		return nil
	}
	rule := &networkingv1.NetworkPolicyEgressRule{Ports: workload.Ports(corev1.ProtocolTCP, int32(port))}
	if server.Provider == platformv1alpha1.ModeManaged {
		rule.To = []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{MatchLabels: selectorLabels(in.platform.Name, server.Type)}}}
	}
	return rule
}

func (in *input) ingress() *networkingv1.Ingress {
	want := in.spec.Ingress
	if want == nil {
		return nil
	}
	out := &networkingv1.Ingress{ObjectMeta: in.meta(in.kind.Product), Spec: networkingv1.IngressSpec{Rules: []networkingv1.IngressRule{{
		Host: want.Host,
		IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{
			Path: "/", PathType: ptr.To(networkingv1.PathTypePrefix),
			Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{
				Name: in.name(in.kind.Product), Port: networkingv1.ServiceBackendPort{Name: portHTTP},
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

// route returns an HTTPRoute, of the version that the cluster serves.
func (in *input) route() *unstructured.Unstructured {
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
			"backendRefs": []any{map[string]any{"name": in.name(in.kind.Product), "port": int64(config.Port)}},
		}},
	}
	if len(hostnames) > 0 {
		spec["hostnames"] = hostnames
	}
	return objectOf(routeKind, in.meta(in.kind.Product), spec, nil)
}

// workerNetwork lets metrics be read and nothing else in. What a tenant's work connects to may be anywhere: egress is left open.
func (in *input) workerNetwork() networkingv1.NetworkPolicySpec {
	return networkingv1.NetworkPolicySpec{
		PodSelector: metav1.LabelSelector{MatchLabels: in.selector(in.kind.Worker.Name)},
		PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
		Ingress: []networkingv1.NetworkPolicyIngressRule{{
			From:  []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{}}},
			Ports: workload.Ports(corev1.ProtocolTCP, config.MetricsPort),
		}},
	}
}

// monitorOf has the metrics of what selector finds read; nil when the specification asks for none.
func monitorOf(kind dynamic.Kind, endpoints string, spec *common.ServiceSpec, meta metav1.ObjectMeta, labels map[string]string) *unstructured.Unstructured {
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
func objectOf(kind dynamic.Kind, meta metav1.ObjectMeta, spec map[string]any, more map[string]string) *unstructured.Unstructured {
	obj := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	obj.SetGroupVersionKind(schema.GroupVersionKind{Group: kind.Group, Version: kind.Versions[0], Kind: kind.Kind})
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
