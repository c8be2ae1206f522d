// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/distribution/reference"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Resources checks the requests and limits of a container.
func Resources(path string, resources *corev1.ResourceRequirements) field.ErrorList {
	if resources == nil {
		return nil
	}
	var out field.ErrorList
	for _, list := range []struct {
		name   string
		values corev1.ResourceList
	}{{"requests", resources.Requests}, {"limits", resources.Limits}} {
		for _, name := range slices.Sorted(maps.Keys(list.values)) {
			if quantity := list.values[name]; quantity.Sign() < 0 {
				out = append(out, Errorf(fmt.Sprintf("%s.%s[%s]", path, list.name, name), "must not be negative"))
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(resources.Requests)) {
		request := resources.Requests[name]
		if limit, ok := resources.Limits[name]; ok && request.Cmp(limit) > 0 {
			out = append(out, Errorf(fmt.Sprintf("%s.requests[%s]", path, name), "must not exceed the limit of %s", limit.String()))
		}
	}
	return out
}

// Image checks the reference of a container image; empty: the default image.
func Image(path, image string) field.ErrorList {
	if image == "" {
		return nil
	}
	if _, err := reference.ParseNormalizedNamed(image); err != nil {
		return field.ErrorList{Errorf(path, "must be the reference of an image, such as registry.example.com/name:tag: %v", err)}
	}
	return nil
}

// Labels checks the keys and values of labels.
func Labels(path string, labels map[string]string) field.ErrorList {
	var out field.ErrorList
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		at := fmt.Sprintf("%s[%s]", path, key)
		for _, problem := range append(validation.IsQualifiedName(key), validation.IsValidLabelValue(labels[key])...) {
			out = append(out, Errorf(at, "%s", problem))
		}
	}
	return out
}

// Annotations checks the keys of annotations.
func Annotations(path string, annotations map[string]string) field.ErrorList {
	var out field.ErrorList
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		for _, problem := range validation.IsQualifiedName(strings.ToLower(key)) {
			out = append(out, Errorf(fmt.Sprintf("%s[%s]", path, key), "%s", problem))
		}
	}
	return out
}

// Hostnames checks the host names of a route; the first label may be a wildcard.
func Hostnames(path string, names []string) field.ErrorList {
	var out field.ErrorList
	for i, name := range names {
		problems := validation.IsDNS1123Subdomain(name)
		if strings.HasPrefix(name, "*") {
			problems = validation.IsWildcardDNS1123Subdomain(name)
		}
		for _, problem := range problems {
			out = append(out, Errorf(fmt.Sprintf("%s[%d]", path, i), "%s", problem))
		}
	}
	return out
}

// Peers checks the peers of a NetworkPolicy as the API server does.
func Peers(path string, peers []networkingv1.NetworkPolicyPeer) field.ErrorList {
	var out field.ErrorList
	for i := range peers {
		peer, at := &peers[i], fmt.Sprintf("%s[%d]", path, i)
		selectors := peer.PodSelector != nil || peer.NamespaceSelector != nil
		switch {
		case selectors && peer.IPBlock != nil:
			out = append(out, Errorf(at, "ipBlock excludes podSelector and namespaceSelector"))
		case !selectors && peer.IPBlock == nil:
			out = append(out, Errorf(at, "one of podSelector, namespaceSelector and ipBlock is required"))
		}
		options := metav1validation.LabelSelectorValidationOptions{}
		for _, invalid := range append(metav1validation.ValidateLabelSelector(peer.PodSelector, options, field.NewPath(at).Child("podSelector")),
			metav1validation.ValidateLabelSelector(peer.NamespaceSelector, options, field.NewPath(at).Child("namespaceSelector"))...) {
			out = append(out, Errorf(invalid.Field, "%s", invalid.Detail))
		}
		out = append(out, ipBlock(at+".ipBlock", peer.IPBlock)...)
	}
	return out
}

func ipBlock(path string, block *networkingv1.IPBlock) field.ErrorList {
	if block == nil {
		return nil
	}
	whole, err := netip.ParsePrefix(block.CIDR)
	if err != nil {
		return field.ErrorList{Errorf(path+".cidr", "must be a CIDR, such as 10.0.0.0/8")}
	}
	var out field.ErrorList
	for i, except := range block.Except {
		part, err := netip.ParsePrefix(except)
		if err != nil || part.Bits() <= whole.Bits() || !whole.Contains(part.Addr()) {
			out = append(out, Errorf(fmt.Sprintf("%s.except[%d]", path, i), "must be a CIDR within %s", block.CIDR))
		}
	}
	return out
}
