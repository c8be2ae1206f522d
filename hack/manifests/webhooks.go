// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"path/filepath"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/itechsmart/operator/controllers"
)

const (
	webhooksName = prefix + "-webhook"
	webhooksFile = "manifests.yaml"
	webhooksPort = 443
)

// writeWebhooks writes the ValidatingWebhookConfiguration for all kinds that have a check to dir. It finds their plurals in the CRDs in
// crds.
func writeWebhooks(crds, dir string) error {
	scheme := runtime.NewScheme()
	if err := controllers.AddToScheme(scheme); err != nil {
		return err
	}
	configuration := &admissionv1.ValidatingWebhookConfiguration{
		TypeMeta:   metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "ValidatingWebhookConfiguration"},
		ObjectMeta: metav1.ObjectMeta{Name: webhooksName},
	}
	found, err := readCRDs(crds)
	if err != nil {
		return err
	}
	plurals := map[schema.GroupKind]string{}
	for _, crd := range found {
		plurals[schema.GroupKind{Group: crd.Spec.Group, Kind: crd.Spec.Names.Kind}] = crd.Spec.Names.Plural
	}
	for _, kind := range controllers.Kinds() {
		gvk, err := apiutil.GVKForObject(kind.Like, scheme)
		if err != nil {
			return err
		}
		plural, ok := plurals[gvk.GroupKind()]
		if !ok {
			return fmt.Errorf("%s: there is no CRD in %s", gvk, crds)
		}
		delete(plurals, gvk.GroupKind())
		if kind.Check != nil {
			configuration.Webhooks = append(configuration.Webhooks, webhook(gvk, plural))
		}
	}
	for kind := range plurals {
		return fmt.Errorf("%s: no product in controllers.Products has this kind", kind)
	}
	return writeYAML(filepath.Join(dir, webhooksFile), configuration)
}

func webhook(gvk schema.GroupVersionKind, plural string) admissionv1.ValidatingWebhook {
	return admissionv1.ValidatingWebhook{
		Name:                    plural + "." + gvk.Group,
		AdmissionReviewVersions: []string{"v1"},
		ClientConfig: admissionv1.WebhookClientConfig{Service: &admissionv1.ServiceReference{
			Name: webhooksName, Namespace: namespace, Path: ptr.To(controllers.WebhookPath(gvk)), Port: ptr.To[int32](webhooksPort),
		}},
		// A resource that is created while the manager is down is checked by its controller.
		FailurePolicy:  ptr.To(admissionv1.Ignore),
		SideEffects:    ptr.To(admissionv1.SideEffectClassNone),
		TimeoutSeconds: ptr.To[int32](5),
		Rules: []admissionv1.RuleWithOperations{{
			Operations: []admissionv1.OperationType{admissionv1.Create, admissionv1.Update},
			Rule: admissionv1.Rule{
				APIGroups: []string{gvk.Group}, APIVersions: []string{gvk.Version}, Resources: []string{plural}, Scope: ptr.To(admissionv1.NamespacedScope),
			},
		}},
	}
}
