// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/itechsmart/operator/controllers/internal/validation"
)

// Path returns where the webhook of a kind is served.
func Path(kind schema.GroupVersionKind) string {
	return "/validate-" + strings.ReplaceAll(kind.Group, ".", "-") + "-" + kind.Version + "-" + strings.ToLower(kind.Kind)
}

// Validate serves the webhook of a kind: it rejects invalid resources when they are created and when their specification
// changes. What an older version admitted can still be labeled and deleted.
func Validate(mgr ctrl.Manager, kind validation.Kind) error {
	gvk, err := apiutil.GVKForObject(kind.Like, mgr.GetScheme())
	if err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	h := &handler{kind: kind, group: gvk.GroupKind(), decoder: admission.NewDecoder(mgr.GetScheme())}
	mgr.GetWebhookServer().Register(Path(gvk), &webhook.Admission{Handler: h})
	return nil
}

// handler answers the API server's requests about one kind.
type handler struct {
	kind    validation.Kind
	group   schema.GroupKind
	decoder admission.Decoder
}

// Handle implements admission.Handler.
func (h *handler) Handle(_ context.Context, request admission.Request) admission.Response {
	obj := h.kind.Like.DeepCopyObject().(client.Object)
	if err := h.decoder.Decode(request, obj); err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	if request.Operation == admissionv1.Update {
		old := h.kind.Like.DeepCopyObject().(client.Object)
		if err := h.decoder.DecodeRaw(request.OldObject, old); err != nil {
			return admission.Errored(http.StatusBadRequest, err)
		}
		if old.GetGeneration() == obj.GetGeneration() || obj.GetDeletionTimestamp() != nil {
			return admission.Allowed("")
		}
	}
	invalid := h.kind.Check(obj)
	if len(invalid) == 0 {
		return admission.Allowed("")
	}
	var status apierrors.APIStatus
	if !errors.As(apierrors.NewInvalid(h.group, obj.GetName(), invalid), &status) {
		return admission.Errored(http.StatusInternalServerError, invalid.ToAggregate())
	}
	result := status.Status()
	return admission.Response{AdmissionResponse: admissionv1.AdmissionResponse{Result: &result}}
}
