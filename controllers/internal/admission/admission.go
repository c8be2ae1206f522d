// SPDX-License-Identifier: Apache-2.0

// Package admission serves the validating webhooks, and renews their certificate. They reject what package validation finds.
// Conditions report the same, for resources that were created while the webhooks were down.
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
)

var errNoCertificate = errors.New("the webhooks have no certificate yet")

// Options of the webhooks.
type Options struct {
	// Name of the ValidatingWebhookConfiguration, and of the Secret with the certificate.
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

// Server serves the webhooks. It renews their certificate, and writes its authority into the ValidatingWebhookConfiguration.
type Server struct {
	options Options
	live    client.Reader
	client  client.Client
	current atomic.Pointer[identity]
}

// New returns a Server. Configure and Setup connect it to a manager.
func New(o Options) *Server {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Server{options: o}
}

// Configure makes a manager serve the webhooks, and cache no other ValidatingWebhookConfiguration.
func (s *Server) Configure(o *manager.Options) {
	o.WebhookServer = webhook.NewServer(webhook.Options{Port: s.options.Port, TLSOpts: []func(*tls.Config){func(c *tls.Config) {
		c.MinVersion = tls.VersionTLS12
		c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if found := s.current.Load(); found != nil {
				return found.serving, nil
			}
			return nil, errNoCertificate
		}
	}}})
	o.Cache.ByObject[&admissionv1.ValidatingWebhookConfiguration{}] = cache.ByObject{Field: fields.OneTermEqualSelector("metadata.name", s.options.Name)}
}

// Setup adds the controller of the certificate. It runs in every replica of the manager, since each serves the webhooks.
func (s *Server) Setup(mgr ctrl.Manager) error {
	s.live, s.client = mgr.GetAPIReader(), mgr.GetClient()
	everywhere := false
	err := ctrl.NewControllerManagedBy(mgr).For(&admissionv1.ValidatingWebhookConfiguration{}).Named("webhooks").
		WithOptions(controller.Options{NeedLeaderElection: &everywhere, MaxConcurrentReconciles: 1}).Complete(s)
	if err != nil {
		return fmt.Errorf("controller of the webhooks' certificate: %w", err)
	}
	return nil
}

// Ready returns an error until there is a certificate to serve with.
func (s *Server) Ready(*http.Request) error {
	if s.current.Load() == nil {
		return errNoCertificate
	}
	return nil
}

// Reconcile makes certificate and configuration agree. When several managers issue a certificate at once, the first one wins and
// the others use its certificate.
func (s *Server) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	if request.Name != s.options.Name {
		return reconcile.Result{}, nil
	}
	found, err := s.identity(ctx)
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("certificate of the webhooks: %w", err)
	}
	s.current.Store(found)
	if err := s.trust(ctx, found.authorities); err != nil {
		return reconcile.Result{}, fmt.Errorf("ValidatingWebhookConfiguration %s: %w", s.options.Name, err)
	}
	return reconcile.Result{RequeueAfter: max(found.renew.Sub(s.options.Now()), time.Second)}, nil
}

// identity returns the certificate in the Secret. It issues a new one when that is invalid or due for renewal.
func (s *Server) identity(ctx context.Context) (*identity, error) {
	now := s.options.Now()
	var secret corev1.Secret
	key := client.ObjectKey{Namespace: s.options.Namespace, Name: s.options.Name}
	if err := s.live.Get(ctx, key, &secret); err != nil {
		return nil, err
	}
	found, err := read(secret.Data, now, s.options.Hosts)
	if err == nil && now.Before(found.renew) {
		return found, nil
	}
	if err != nil && len(secret.Data) > 0 {
		log.FromContext(ctx).Info("issuing a new certificate for the webhooks", "secret", key.String(), "reason", err.Error())
	}
	if secret.Data, err = issue(now, s.options.Hosts, secret.Data[keyAuthorities]); err != nil {
		return nil, err
	}
	if err := s.client.Update(ctx, &secret); err != nil { // a conflict: another manager was faster
		return nil, err
	}
	return read(secret.Data, now, s.options.Hosts)
}

// trust writes the authorities into the ValidatingWebhookConfiguration.
func (s *Server) trust(ctx context.Context, authorities []byte) error {
	var found admissionv1.ValidatingWebhookConfiguration
	if err := s.client.Get(ctx, client.ObjectKey{Name: s.options.Name}, &found); err != nil {
		return client.IgnoreNotFound(err)
	}
	wanted := found.DeepCopy()
	for i := range wanted.Webhooks {
		wanted.Webhooks[i].ClientConfig.CABundle = bytes.Clone(authorities)
	}
	if equality.Semantic.DeepEqual(found.Webhooks, wanted.Webhooks) {
		return nil
	}
	err := s.client.Patch(ctx, wanted, client.MergeFromWithOptions(&found, client.MergeFromWithOptimisticLock{}))
	if apierrors.IsConflict(err) {
		log.FromContext(ctx).V(1).Info("the ValidatingWebhookConfiguration changed meanwhile; its watch event starts another pass")
		return nil
	}
	return err
}
