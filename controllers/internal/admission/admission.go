// SPDX-License-Identifier: Apache-2.0

// Package admission answers the API server's question whether a resource may be, before it is: what a schema and CEL rules
// cannot tell. It keeps its own certificate. Conditions tell the same, so that a resource which came while nobody answered
// is not taken for a good one.
package admission

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	ctrladmission "sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

var errNone = errors.New("the webhooks have no certificate yet")

// Options of the webhooks.
type Options struct {
	// Name is that of the ValidatingWebhookConfiguration and of the Secret that the certificate is kept in; empty: there are
	// no webhooks.
	Name string
	// Namespace is the Secret's.
	Namespace string
	// Hosts are the names that the API server calls.
	Hosts []string
	// Port to listen on.
	Port int
	// Now is the clock; time.Now when nil.
	Now func() time.Time
}

// Keeper keeps the certificate that the webhooks are served with, and tells the API server whom to trust.
type Keeper struct {
	options Options
	live    client.Reader
	client  client.Client
	held    atomic.Pointer[identity]
}

// New prepares the webhooks of a manager whose server is Server's.
func New(o Options) *Keeper {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Keeper{options: o}
}

// Serve makes a manager serve the webhooks, and hold no configuration but theirs.
func (k *Keeper) Serve(o *manager.Options) {
	o.WebhookServer = webhook.NewServer(webhook.Options{Port: k.options.Port, TLSOpts: []func(*tls.Config){func(c *tls.Config) {
		c.MinVersion = tls.VersionTLS12
		c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if held := k.held.Load(); held != nil {
				return held.serving, nil
			}
			return nil, errNone
		}
	}}})
	o.Cache.ByObject[&admissionv1.ValidatingWebhookConfiguration{}] = cache.ByObject{Field: fields.OneTermEqualSelector("metadata.name", k.options.Name)}
}

// Setup begins to keep the certificate. Every manager does, whoever leads: each serves.
func (k *Keeper) Setup(mgr ctrl.Manager) error {
	k.live, k.client = mgr.GetAPIReader(), mgr.GetClient()
	everywhere := false
	err := ctrl.NewControllerManagedBy(mgr).For(&admissionv1.ValidatingWebhookConfiguration{}).Named("webhooks").
		WithOptions(controller.Options{NeedLeaderElection: &everywhere, MaxConcurrentReconciles: 1}).Complete(k)
	if err != nil {
		return fmt.Errorf("keeper of the webhooks' certificate: %w", err)
	}
	return nil
}

// Ready is an error until there is a certificate to serve with.
func (k *Keeper) Ready(*http.Request) error {
	if k.held.Load() == nil {
		return errNone
	}
	return nil
}

// Reconcile makes certificate and configuration agree. Of managers that make a certificate at once the first one wins, and
// the others take what it made.
func (k *Keeper) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	if request.Name != k.options.Name {
		return reconcile.Result{}, nil
	}
	held, err := k.identity(ctx)
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("certificate of the webhooks: %w", err)
	}
	k.held.Store(held)
	if err := k.trust(ctx, held.authorities); err != nil {
		return reconcile.Result{}, fmt.Errorf("ValidatingWebhookConfiguration %s: %w", k.options.Name, err)
	}
	return reconcile.Result{RequeueAfter: max(held.renew.Sub(k.options.Now()), time.Second)}, nil
}

// identity is what the Secret holds, made anew where that does not serve.
func (k *Keeper) identity(ctx context.Context) (*identity, error) {
	now := k.options.Now()
	var secret corev1.Secret
	key := client.ObjectKey{Namespace: k.options.Namespace, Name: k.options.Name}
	if err := k.live.Get(ctx, key, &secret); err != nil {
		return nil, err
	}
	held, err := read(secret.Data, now, k.options.Hosts)
	if err == nil && now.Before(held.renew) {
		return held, nil
	}
	if err != nil && len(secret.Data) > 0 {
		log.FromContext(ctx).Info("the webhooks' certificate is made anew", "secret", key.String(), "reason", err.Error())
	}
	if secret.Data, err = issue(now, k.options.Hosts, secret.Data[keyAuthorities]); err != nil {
		return nil, err
	}
	if err := k.client.Update(ctx, &secret); err != nil { // a conflict: another manager was faster
		return nil, err
	}
	return read(secret.Data, now, k.options.Hosts)
}

// trust writes the authorities where they are not so yet.
func (k *Keeper) trust(ctx context.Context, authorities []byte) error {
	var found admissionv1.ValidatingWebhookConfiguration
	if err := k.client.Get(ctx, client.ObjectKey{Name: k.options.Name}, &found); err != nil {
		return client.IgnoreNotFound(err)
	}
	wanted := found.DeepCopy()
	for i := range wanted.Webhooks {
		wanted.Webhooks[i].ClientConfig.CABundle = bytes.Clone(authorities)
	}
	if equality.Semantic.DeepEqual(found.Webhooks, wanted.Webhooks) {
		return nil
	}
	err := k.client.Patch(ctx, wanted, client.MergeFromWithOptions(&found, client.MergeFromWithOptimisticLock{}))
	if apierrors.IsConflict(err) {
		log.FromContext(ctx).V(1).Info("somebody else wrote the configuration; its change comes back")
		return nil
	}
	return err
}

// Validate lets check answer for resources of T, when one is made and when its specification changes: what is there already
// can be labeled and deleted, whatever an older version let through.
func Validate[T client.Object](mgr ctrl.Manager, like T, check func(context.Context, T) error) error {
	err := ctrl.NewWebhookManagedBy(mgr, like).WithValidator(validator[T](check)).Complete()
	if err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	return nil
}

type validator[T client.Object] func(context.Context, T) error

func (v validator[T]) ValidateCreate(ctx context.Context, obj T) (ctrladmission.Warnings, error) {
	return nil, v(ctx, obj)
}

func (v validator[T]) ValidateUpdate(ctx context.Context, was, is T) (ctrladmission.Warnings, error) {
	if was.GetGeneration() == is.GetGeneration() || is.GetDeletionTimestamp() != nil {
		return nil, nil
	}
	return nil, v(ctx, is)
}

func (v validator[T]) ValidateDelete(context.Context, T) (ctrladmission.Warnings, error) {
	return nil, nil
}
