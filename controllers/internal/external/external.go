// SPDX-License-Identifier: Apache-2.0

// Package external reconciles objects in backing systems: topics, tables,
// queues. A kind supplies a Driver; what was created is remembered on the
// owner before it is created, so that a crash at any point neither orphans an
// object nor drops one that somebody else made.
package external

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sort"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/internal/backend"
)

// AnnotationClaims lists, on the owner, the external objects that it created or is about to create.
const AnnotationClaims = "itechsmart.dev/external-objects"

// Claim is one external object that its owner created.
type Claim struct {
	Kind string `json:"kind"` // Topic, Table, …
	Name string `json:"name"`
	// Connection tells which server: "Platform/<namespace>/<name>" or "Secret/<namespace>/<name>".
	Connection string `json:"connection"`
}

// Driver makes one kind of external object as specified. S is its specification.
type Driver[S any] struct {
	Kind string
	Name func(S) string
	// Get answers backend.ErrNotFound when the object does not exist.
	Get func(ctx context.Context, want S) (S, error)
	// Create answers backend.ErrExists when it exists.
	Create func(ctx context.Context, want S) error
	// Update makes an owned object as specified; it writes only what differs. What cannot be made so is a reconcile.Terminal.
	Update func(ctx context.Context, want, have S) error
	// Usable is nil when an object that the owner did not create serves as it is.
	Usable func(want, have S) error
	// MayCreate is nil when a missing object is to be created, else the error that says what to do.
	MayCreate func(want S) error
}

// Owner is a resource with claims.
type Owner struct {
	Client client.Client
	Object client.Object
}

// Claims are what the owner has created, from its annotation.
func (o Owner) Claims() ([]Claim, error) {
	text := o.Object.GetAnnotations()[AnnotationClaims]
	if text == "" {
		return nil, nil
	}
	var claims []Claim
	if err := json.Unmarshal([]byte(text), &claims); err != nil {
		return nil, reconcile.Stall(common.ReasonInvalidSpec,
			"annotation %s is not readable, it was edited by hand: restore it, or remove it to keep all external objects", AnnotationClaims)
	}
	return claims, nil
}

// claim adds claims and the finalizer, in one write and before anything is created.
func (o Owner) claim(ctx context.Context, added []Claim) error {
	claims, err := o.Claims()
	if err != nil {
		return err
	}
	return o.write(ctx, append(claims, added...), true)
}

// Release removes claims: of objects that are gone, or that turned out to be somebody else's.
func (o Owner) Release(ctx context.Context, removed ...Claim) error {
	claims, err := o.Claims()
	if err != nil {
		return err
	}
	var kept []Claim
	for _, claim := range claims {
		if !holds(removed, claim) {
			kept = append(kept, claim)
		}
	}
	return o.write(ctx, kept, len(kept) > 0)
}

func (o Owner) write(ctx context.Context, claims []Claim, guard bool) error {
	sort.Slice(claims, func(i, j int) bool { return fmt.Sprint(claims[i]) < fmt.Sprint(claims[j]) })
	return reconcile.PatchMetadata(ctx, o.Client, o.Object, func(obj client.Object) {
		annotations := map[string]string{}
		for key, value := range obj.GetAnnotations() {
			annotations[key] = value
		}
		delete(annotations, AnnotationClaims)
		if len(claims) > 0 {
			// Marshalling plain strings cannot fail.
			data, _ := json.Marshal(claims)
			annotations[AnnotationClaims] = string(data)
		}
		obj.SetAnnotations(annotations)
		if guard {
			controllerutil.AddFinalizer(obj, common.Finalizer)
		}
	})
}

func holds(claims []Claim, claim Claim) bool {
	for _, c := range claims {
		if c == claim {
			return true
		}
	}
	return false
}

// Ensure makes the wanted objects on one connection exist as specified, and tells for each whether the owner created it.
func Ensure[S any](ctx context.Context, owner Owner, driver Driver[S], connection string, wants []S) ([]common.ExternalObject, error) {
	claims, err := owner.Claims()
	if err != nil {
		return nil, err
	}
	var missing []S
	var added []Claim
	out := make([]common.ExternalObject, 0, len(wants))
	for _, want := range wants {
		claim := Claim{Kind: driver.Kind, Name: driver.Name(want), Connection: connection}
		owned := holds(claims, claim)
		have, err := driver.Get(ctx, want)
		switch {
		case errors.Is(err, backend.ErrNotFound):
			if err := driver.MayCreate(want); err != nil {
				return nil, err
			}
			missing = append(missing, want)
			if !owned {
				added = append(added, claim)
			}
			owned = true
		case err != nil:
			return nil, Explain(driver.Kind, claim.Name, err)
		case owned:
			if err := driver.Update(ctx, want, have); err != nil {
				return nil, Explain(driver.Kind, claim.Name, err)
			}
		default:
			if err := driver.Usable(want, have); err != nil {
				return nil, err
			}
		}
		out = append(out, common.ExternalObject{Kind: driver.Kind, Name: claim.Name, Owned: owned})
	}
	if len(added) > 0 {
		if err := owner.claim(ctx, added); err != nil {
			return nil, err
		}
	}
	for _, want := range missing {
		if err := create(ctx, owner, driver, connection, want, added); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func create[S any](ctx context.Context, owner Owner, driver Driver[S], connection string, want S, fresh []Claim) error {
	claim := Claim{Kind: driver.Kind, Name: driver.Name(want), Connection: connection}
	err := driver.Create(ctx, want)
	if errors.Is(err, backend.ErrExists) && holds(fresh, claim) {
		// Somebody made it between our look and our claim: it is theirs.
		if err := owner.Release(ctx, claim); err != nil {
			return err
		}
		return reconcile.Wait(common.ReasonProgressing, "%s %q appeared meanwhile", driver.Kind, claim.Name)
	}
	if errors.Is(err, backend.ErrExists) {
		return nil
	}
	return Explain(driver.Kind, claim.Name, err)
}

// Explain turns a backend's error into the typed error that says what to do.
func Explain(kind, name string, err error) error {
	var waiting *reconcile.Waiting
	var terminal *reconcile.Terminal
	switch {
	case err == nil, errors.As(err, &waiting), errors.As(err, &terminal):
		return err
	case errors.Is(err, backend.ErrAuth):
		return reconcile.Fail(common.ReasonAccessDenied, fmt.Errorf("%s %q: %w; check the connection's credentials and rights", kind, name, err))
	case errors.Is(err, backend.ErrInvalid):
		return &reconcile.Terminal{Reason: common.ReasonInvalidSpec, Message: fmt.Sprintf("%s %q: %v", kind, name, err)}
	default:
		return reconcile.Fail(common.ReasonBackendUnavailable, fmt.Errorf("%s %q: %w", kind, name, err))
	}
}
