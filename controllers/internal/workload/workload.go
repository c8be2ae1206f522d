// SPDX-License-Identifier: Apache-2.0

// Package workload holds the parts of which the operator's Pods are made: default resources, probes, and what Pod
// Security's profile restricted demands.
package workload

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

const (
	// AnnotationChecksum restarts a Pod whose configuration changed.
	AnnotationChecksum = "itechsmart.dev/config-checksum"
	// ContainerName is the name of the one container of every Pod.
	ContainerName = "server"
	// VolumeConfig is the volume with a Pod's configuration.
	VolumeConfig = "config"
)

// Sizing is a container's default resources, in Kubernetes' notation.
type Sizing struct {
	CPU, Memory, MemoryLimit string
}

// Resources returns the container's: those that are given, over the defaults.
func (s Sizing) Resources(given *corev1.ResourceRequirements) corev1.ResourceRequirements {
	out := corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(s.CPU), corev1.ResourceMemory: resource.MustParse(s.Memory)},
		Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(s.MemoryLimit)},
	}
	if given == nil {
		return out
	}
	given = given.DeepCopy()
	maps.Copy(out.Requests, given.Requests)
	maps.Copy(out.Limits, given.Limits)
	// A default may not contradict what is given: the API server refuses a request above its limit.
	for name, request := range out.Requests {
		limit, limited := out.Limits[name]
		if !limited || request.Cmp(limit) <= 0 {
			continue
		}
		if _, asked := given.Limits[name]; asked {
			out.Requests[name] = limit
		} else {
			out.Limits[name] = request
		}
	}
	out.Claims = given.Claims
	return out
}

// Probe asks handler every period seconds.
func Probe(handler corev1.ProbeHandler, period, timeout, failures int32) *corev1.Probe {
	return &corev1.Probe{ProbeHandler: handler, PeriodSeconds: period, TimeoutSeconds: timeout, FailureThreshold: failures}
}

// HTTPGet asks a path of a named port.
func HTTPGet(path, port string) corev1.ProbeHandler {
	return corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString(port), Scheme: corev1.URISchemeHTTP}}
}

// PodSecurity and ContainerSecurity are Pod Security's profile restricted, for a user and group id.
func PodSecurity(uid int64) *corev1.PodSecurityContext {
	return &corev1.PodSecurityContext{
		RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To(uid), RunAsGroup: ptr.To(uid), FSGroup: ptr.To(uid),
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}

// ContainerSecurity gives a container no capability, no way to gain privileges and a read-only root.
func ContainerSecurity() *corev1.SecurityContext {
	return &corev1.SecurityContext{
		AllowPrivilegeEscalation: ptr.To(false), ReadOnlyRootFilesystem: ptr.To(true),
		Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
}

// Ports returns numbered ports of a NetworkPolicy.
func Ports(protocol corev1.Protocol, numbers ...int32) []networkingv1.NetworkPolicyPort {
	var out []networkingv1.NetworkPolicyPort
	for _, number := range numbers {
		out = append(out, networkingv1.NetworkPolicyPort{Protocol: ptr.To(protocol), Port: ptr.To(intstr.FromInt32(number))})
	}
	return out
}

// Checksum of what JSON shows of a value; JSON sorts the keys of maps.
func Checksum(value any) string {
	data, err := json.Marshal(value)
	if err != nil {
		return "" // none of our types fails
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8])
}

// Password returns 32 characters of 32 that no configuration file or URI escapes: 160 bits.
func Password() string {
	const alphabet = "abcdefghijkmnpqrstuvwxyz23456789"
	random := make([]byte, 32)
	_, _ = rand.Read(random) // never fails: it ends the program instead
	for i, r := range random {
		random[i] = alphabet[int(r)%len(alphabet)]
	}
	return string(random)
}

// Sooner returns the earlier of two delays; zero is none.
func Sooner(a, b time.Duration) time.Duration {
	if a <= 0 || b > 0 && b < a {
		return b
	}
	return a
}
