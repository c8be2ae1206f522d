// SPDX-License-Identifier: Apache-2.0

// Package reconcile is the shared part of every controller: fetch, steps in
// order, and one deferred status patch. A controller supplies the steps.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
)

// Object is a resource with conditions.
type Object interface {
	client.Object
	common.ConditionedObject
}

// Step is one part of a pass. The first that fails ends the pass.
type Step struct {
	Name string
	Run  func(ctx context.Context) error
}

// Pass reconciles one resource once. Every request has a new one, so that steps
// can keep results for later steps.
type Pass interface {
	// Steps lead from the specification to Ready.
	Steps() []Step
	// Finalize removes what is outside of Kubernetes. It is called until it returns nil.
	Finalize(ctx context.Context) error
	// Finish sets the kind's own status fields and conditions; err is the error that ended the steps, if any.
	// It returns when to reconcile again although nothing changed; zero: never.
	Finish(ctx context.Context, err error) time.Duration
}

// Reconciler runs passes over one kind.
type Reconciler[T Object] struct {
	Client   client.Client
	Recorder events.EventRecorder
	// New returns an empty object.
	New func() T
	// NewPass returns the pass for an object, which the pass may change.
	NewPass func(T) Pass
	// Forget drops what is remembered of a resource that is gone; may be nil.
	Forget func(key client.ObjectKey)

	mu    sync.Mutex
	begun map[client.ObjectKey]time.Time // the first pass over a resource that has no condition yet
	wrote map[client.ObjectKey]written   // the last status patch, until the cache has it
}

// written is the version of a resource after a status patch.
type written struct {
	version string
	at      time.Time
}

// longestLag bounds the wait for the cache: after a restore of etcd, versions start over.
const longestLag = time.Minute

// maxStatusDelay is how long the first status write of a new resource is delayed while the resource is Reconciling. Most
// become Ready sooner, and need one write instead of two. Until then status.observedGeneration is -1, which kstatus reads
// as in progress.
const maxStatusDelay = 2 * time.Second

// Reconcile implements controller-runtime's reconcile.Reconciler.
func (r *Reconciler[T]) Reconcile(ctx context.Context, req ctrl.Request) (result ctrl.Result, err error) {
	obj := r.New()
	if err := r.Client.Get(ctx, req.NamespacedName, obj); err != nil {
		if apierrors.IsNotFound(err) {
			r.forget(req.NamespacedName)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if r.behind(obj) {
		return behindResult(), nil
	}
	before := obj.DeepCopyObject().(T)
	pass := r.NewPass(obj)
	if !obj.GetDeletionTimestamp().IsZero() {
		return r.finalize(ctx, obj, before, pass)
	}
	err = run(ctx, pass.Steps())
	if apierrors.IsConflict(err) || errors.Is(err, context.Canceled) {
		// The cache is behind, or the manager is stopping: neither belongs in a status.
		return ctrl.Result{RequeueAfter: jitter(200 * time.Millisecond)}, nil
	}
	if left := r.statusDelay(before, err); left > 0 {
		return ctrl.Result{RequeueAfter: left}, nil
	}
	summarize(obj, err)
	again := pass.Finish(ctx, err)
	if patchErr := r.patchStatus(ctx, obj, before); patchErr != nil {
		return unpatched(patchErr)
	}
	return decide(err, again)
}

// statusDelay returns how long to hold back the first status write.
func (r *Reconciler[T]) statusDelay(obj T, err error) time.Duration {
	var waiting *Waiting
	key := client.ObjectKeyFromObject(obj)
	r.mu.Lock()
	defer r.mu.Unlock()
	if !errors.As(err, &waiting) || len(*obj.GetConditions()) > 0 {
		delete(r.begun, key)
		return 0
	}
	begun, ok := r.begun[key]
	if !ok {
		begun = time.Now()
		if r.begun == nil {
			r.begun = map[client.ObjectKey]time.Time{}
		}
		r.begun[key] = begun
	}
	left := maxStatusDelay - time.Since(begun)
	if left <= 0 {
		return 0
	}
	return Soonest(left, waiting.After)
}

// behind reports whether the cache lacks what the last pass wrote. A pass that compares with an older status would write
// nothing where things are as they were before, and so leave what the last pass wrote.
func (r *Reconciler[T]) behind(obj T) bool {
	key := client.ObjectKeyFromObject(obj)
	r.mu.Lock()
	defer r.mu.Unlock()
	last, ok := r.wrote[key]
	if !ok {
		return false
	}
	order, err := resourceversion.CompareResourceVersion(obj.GetResourceVersion(), last.version)
	if err == nil && order < 0 && time.Since(last.at) < longestLag {
		return true
	}
	delete(r.wrote, key)
	return false
}

func (r *Reconciler[T]) note(obj T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wrote == nil {
		r.wrote = map[client.ObjectKey]written{}
	}
	r.wrote[client.ObjectKeyFromObject(obj)] = written{obj.GetResourceVersion(), time.Now()}
}

func (r *Reconciler[T]) forget(key client.ObjectKey) {
	r.mu.Lock()
	delete(r.begun, key)
	delete(r.wrote, key)
	r.mu.Unlock()
	if r.Forget != nil {
		r.Forget(key)
	}
}

func run(ctx context.Context, steps []Step) error {
	for _, step := range steps {
		if err := step.Run(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.Name, err)
		}
	}
	return nil
}

// unpatched requeues at once when the cache was behind an earlier write.
func unpatched(err error) (ctrl.Result, error) {
	if apierrors.IsConflict(err) {
		return behindResult(), nil
	}
	return ctrl.Result{}, err
}

// behindResult gives the cache time to catch up.
func behindResult() ctrl.Result { return ctrl.Result{RequeueAfter: jitter(50 * time.Millisecond)} }

// decide returns the one place where an error becomes a requeue.
func decide(err error, again time.Duration) (ctrl.Result, error) {
	var waiting *Waiting
	var terminal *Terminal
	switch {
	case err == nil:
	case errors.As(err, &waiting):
		again = Soonest(again, waiting.After)
	case errors.As(err, &terminal):
		again = Soonest(again, terminal.After)
	default:
		return ctrl.Result{}, err // the work queue backs off
	}
	if again <= 0 {
		return ctrl.Result{}, nil
	}
	return ctrl.Result{RequeueAfter: jitter(again)}, nil
}

// Soonest returns the shorter of two delays; zero is none.
func Soonest(a, b time.Duration) time.Duration {
	if a <= 0 || (b > 0 && b < a) {
		return b
	}
	return a
}

// jitter spreads timers by a tenth, so that resources made together do not wake together.
func jitter(d time.Duration) time.Duration {
	return d + time.Duration(rand.Int64N(int64(d)/10+1)) //nolint:gosec // G404: spreading timers needs no secrecy
}

// summarize sets Ready, Reconciling and Stalled from the outcome of the steps.
func summarize(obj Object, err error) {
	conditions := obj.GetConditions()
	obj.SetObservedGeneration(obj.GetGeneration())
	var terminal *Terminal
	if err == nil {
		Set(obj, common.ConditionReady, metav1.ConditionTrue, common.ReasonSucceeded, "All is as specified.")
		meta.RemoveStatusCondition(conditions, common.ConditionReconciling)
		meta.RemoveStatusCondition(conditions, common.ConditionStalled)
		return
	}
	reason, message := Classify(err)
	Set(obj, common.ConditionReady, metav1.ConditionFalse, reason, message)
	if errors.As(err, &terminal) {
		Set(obj, common.ConditionStalled, metav1.ConditionTrue, reason, message)
		meta.RemoveStatusCondition(conditions, common.ConditionReconciling)
		return
	}
	Set(obj, common.ConditionReconciling, metav1.ConditionTrue, reason, message)
	meta.RemoveStatusCondition(conditions, common.ConditionStalled)
}

// Set sets one condition at the object's generation. Messages are cut where the API would refuse them.
func Set(obj Object, conditionType string, status metav1.ConditionStatus, reason, message string) {
	const longest = 2048
	if len(message) > longest {
		message = message[:longest-1] + "…"
	}
	meta.SetStatusCondition(obj.GetConditions(), metav1.Condition{
		Type: conditionType, Status: status, Reason: reason, Message: message, ObservedGeneration: obj.GetGeneration(),
	})
}

// patchStatus writes the status once, and only when it changed. It records an event when Ready changes.
func (r *Reconciler[T]) patchStatus(ctx context.Context, obj, before T) error {
	// Steps may have patched metadata meanwhile: only the status is compared and sent.
	base := before.DeepCopyObject().(T)
	copyMetadata(base, obj)
	if equality.Semantic.DeepEqual(base, obj) {
		return nil
	}
	was := meta.FindStatusCondition(*before.GetConditions(), common.ConditionReady)
	is := meta.FindStatusCondition(*obj.GetConditions(), common.ConditionReady)
	var event *metav1.Condition
	// No event for a new resource that becomes Ready at once: events are writes, too.
	if is != nil && (was != nil || is.Status != metav1.ConditionTrue) && (was == nil || was.Status != is.Status || was.Reason != is.Reason) {
		event = is.DeepCopy()
	}
	// The patch has only what differs from the cache. With a stale cache it would leave fields of an earlier pass, so it is locked.
	if err := r.Client.Status().Patch(ctx, obj, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})); err != nil {
		return client.IgnoreNotFound(fmt.Errorf("patch status: %w", err))
	}
	r.note(obj)
	if event != nil && r.Recorder != nil {
		kind := corev1.EventTypeNormal
		if event.Status != metav1.ConditionTrue && meta.IsStatusConditionTrue(*obj.GetConditions(), common.ConditionStalled) {
			kind = corev1.EventTypeWarning
		}
		r.Recorder.Eventf(obj, nil, kind, event.Reason, "Reconcile", "%s", event.Message)
	}
	return nil
}

// copyMetadata copies the metadata that steps may have patched on src.
func copyMetadata(dst, src client.Object) {
	dst.SetResourceVersion(src.GetResourceVersion())
	dst.SetGeneration(src.GetGeneration())
	dst.SetFinalizers(src.GetFinalizers())
	dst.SetAnnotations(src.GetAnnotations())
	dst.SetManagedFields(src.GetManagedFields())
}

// PatchMetadata writes what change does to the object's metadata. The status that the pass has gathered in memory stays as
// it is. It writes nothing when change changes nothing.
func PatchMetadata(ctx context.Context, c client.Client, obj client.Object, change func(client.Object)) error {
	changed := obj.DeepCopyObject().(client.Object)
	change(changed)
	if equality.Semantic.DeepEqual(changed, obj) {
		return nil
	}
	// The lock on the resource version keeps a stale cache from reverting another client's change.
	patch := client.MergeFromWithOptions(obj.DeepCopyObject().(client.Object), client.MergeFromWithOptimisticLock{})
	if err := c.Patch(ctx, changed, patch); err != nil {
		return fmt.Errorf("patch metadata: %w", err)
	}
	copyMetadata(obj, changed)
	return nil
}

func (r *Reconciler[T]) finalize(ctx context.Context, obj, before T, pass Pass) (ctrl.Result, error) {
	if !controllerutil.ContainsFinalizer(obj, common.Finalizer) {
		return ctrl.Result{}, nil
	}
	err := pass.Finalize(ctx)
	if err == nil {
		base := obj.DeepCopyObject().(T)
		controllerutil.RemoveFinalizer(obj, common.Finalizer)
		return ctrl.Result{}, client.IgnoreNotFound(r.Client.Patch(ctx, obj, client.MergeFrom(base)))
	}
	reason, message := Classify(err)
	obj.SetObservedGeneration(obj.GetGeneration())
	Set(obj, common.ConditionReady, metav1.ConditionFalse, common.ReasonDeleting, reason+": "+message)
	if patchErr := r.patchStatus(ctx, obj, before); patchErr != nil {
		return unpatched(patchErr)
	}
	return decide(err, 0)
}
