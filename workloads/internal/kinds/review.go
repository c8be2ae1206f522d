// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"context"
	"fmt"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/itechsmart/operator/workloads/internal/auth"
)

// Reviewer verifies tokens of ServiceAccounts by the API server. The service needs the permission to create
// tokenreviews.authentication.k8s.io.
type Reviewer struct{ client client.Client }

// NewReviewer returns a Reviewer, without a request to the API server.
func NewReviewer(config *rest.Config) (*Reviewer, error) {
	scheme := runtime.NewScheme()
	if err := authenticationv1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("token review: %w", err)
	}
	settings := rest.CopyConfig(config)
	settings.Timeout = requestTimeout
	if settings.QPS == 0 {
		settings.QPS, settings.Burst = -1, -1
	}
	mapper, _, err := mapping(scheme, nil)
	if err != nil {
		return nil, err
	}
	c, err := client.New(settings, client.Options{Scheme: scheme, Mapper: mapper})
	if err != nil {
		return nil, fmt.Errorf("token review: prepare the client: %w", err)
	}
	return &Reviewer{c}, nil
}

// Review returns the ServiceAccount of a token for the audience, or auth.ErrInvalidToken. Any other error means that the
// API server could not be reached.
func (r *Reviewer) Review(ctx context.Context, token, audience string) (namespace, name string, err error) {
	review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{audience}}}
	err = r.client.Create(ctx, review)
	if apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) {
		return "", "", fmt.Errorf("token review: %w", auth.ErrInvalidToken)
	}
	if err != nil {
		return "", "", fmt.Errorf("token review: %w", err)
	}
	if !review.Status.Authenticated || !slices.Contains(review.Status.Audiences, audience) {
		return "", "", fmt.Errorf("token review: %w", auth.ErrInvalidToken)
	}
	account, found := strings.CutPrefix(review.Status.User.Username, "system:serviceaccount:")
	namespace, name, split := strings.Cut(account, ":")
	if !found || !split {
		return "", "", fmt.Errorf("token review: %w: it does not belong to a ServiceAccount", auth.ErrInvalidToken)
	}
	return namespace, name, nil
}
