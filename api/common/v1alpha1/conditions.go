// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Condition types that every kind has. They follow kstatus, so that Argo CD,
// Flux and `kubectl wait` understand them.
const (
	// ConditionReady is True when the resource works: its external objects exist and
	// every replica serves the current generation.
	ConditionReady = "Ready"
	// ConditionReconciling is True while the controller works towards the specification. It is
	// absent otherwise.
	ConditionReconciling = "Reconciling"
	// ConditionStalled is True when only a change of the specification, or of something that it
	// refers to, can help. It is absent otherwise.
	ConditionStalled = "Stalled"
)

// Reasons that every kind uses.
const (
	// ReasonSucceeded: the last pass completed.
	ReasonSucceeded = "Succeeded"
	// ReasonProgressing: children are being created or rolled out.
	ReasonProgressing = "Progressing"
	// ReasonInvalidSpec: a field has a value that cannot work; the message names it.
	ReasonInvalidSpec = "InvalidSpec"
	// ReasonReferenceNotFound: an object that the specification names does not exist.
	ReasonReferenceNotFound = "ReferenceNotFound"
	// ReasonReferenceNotGranted: it is in another namespace, which has no ReferenceGrant for it.
	ReasonReferenceNotGranted = "ReferenceNotGranted"
	// ReasonReferenceNotReady: it exists but is not Ready yet.
	ReasonReferenceNotReady = "ReferenceNotReady"
	// ReasonConflict: an older resource claims the same external name.
	ReasonConflict = "Conflict"
	// ReasonNotOwned: an external object that this resource did not create exists and differs.
	ReasonNotOwned = "NotOwned"
	// ReasonBackendUnavailable: a backing system does not answer.
	ReasonBackendUnavailable = "BackendUnavailable"
	// ReasonAccessDenied: a backing system refuses the credentials.
	ReasonAccessDenied = "AccessDenied"
	// ReasonDeleting: the resource is being deleted.
	ReasonDeleting = "Deleting"
	// ReasonReconcileError: an unexpected error; the pass is retried with back-off.
	ReasonReconcileError = "ReconcileError"
)

// Labels of every object that the operator creates, in addition to the app.kubernetes.io ones.
const (
	// LabelOwnerKind and LabelOwnerName identify the owner of an object.
	LabelOwnerKind = "itechsmart.dev/owner-kind"
	LabelOwnerName = "itechsmart.dev/owner-name"
	// LabelComponent is the component of the owner that the object belongs to.
	LabelComponent = "app.kubernetes.io/component"
	// LabelPlatform is the name of the Platform that the object belongs to.
	LabelPlatform = "itechsmart.dev/platform"
	// FieldOwner is the server-side apply field manager of every child.
	FieldOwner = "itechsmart-operator"
	// Finalizer guards external objects.
	Finalizer = "itechsmart.dev/finalizer"
)
