// SPDX-License-Identifier: Apache-2.0

// Package external reconciles objects in backing systems: topics, tables,
// queues. A kind supplies a Driver. An annotation of the owner claims an object
// before it is created, so that a crash at any point neither orphans an object
// nor drops one that it did not create.
package external

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/internal/backend"
)

// AnnotationClaims lists, on the owner, the external objects that it created or is about to create.
const AnnotationClaims = "itechsmart.dev/external-objects"

// Claim names one external object that its owner created.
type Claim struct {
	Kind string `json:"kind"` // Topic, Table, …
	Name string `json:"name"`
	// Connection names the server: "Platform/<namespace>/<name>/<backend>" or "Secret/<namespace>/<name>".
	Connection string `json:"connection"`
}

// Unreadable returns the error for a claim that names no object which its owner could have created.
func (c Claim) Unreadable() error {
	return reconcile.Stall(common.ReasonInvalidSpec, "annotation %s names %s %q on %q, which cannot be understood; remove that entry to go on",
		AnnotationClaims, c.Kind, c.Name, c.Connection)
}

// Driver creates and updates one kind of external object. S is its specification.
type Driver[S any] struct {
	Kind string
	Name func(S) string
	// Get returns backend.ErrNotFound when the object does not exist.
	Get func(ctx context.Context, want S) (S, error)
	// Create returns backend.ErrExists when the object exists.
	Create func(ctx context.Context, want S) error
	// Update changes an owned object to its specification. It writes only what differs; a change that the server does not allow
	// is a reconcile.Terminal.
	Update func(ctx context.Context, want, have S) error
	// Usable returns nil when an object that the owner did not create can be used as it is.
	Usable func(want, have S) error
	// MayCreate returns nil when a missing object is to be created, else the error that says what to do.
	MayCreate func(want S) error
	// Drop removes an object by its claim's name. It may return backend.ErrNotFound for a missing one.
	Drop func(ctx context.Context, name string) error
}

// Owner is a resource with claims.
type Owner struct {
	Client client.Client
	Object client.Object
}

// Claims reads from the annotation what the owner has created, or is about to create.
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

// Claimed returns a function that reports whether the owner has a claim.
func (o Owner) Claimed() (func(Claim) bool, error) {
	claims, err := o.Claims()
	if err != nil {
		return nil, err
	}
	return func(c Claim) bool { return slices.Contains(claims, c) }, nil
}

// Claim adds the claims that are missing, and the finalizer, in one write. Call it before anything is created.
func (o Owner) Claim(ctx context.Context, added ...Claim) error {
	claims, err := o.Claims()
	if err != nil {
		return err
	}
	for _, claim := range added {
		if !slices.Contains(claims, claim) {
			claims = append(claims, claim)
		}
	}
	return o.write(ctx, claims, true)
}

// Release removes the claims of objects that do not exist, or that another owner created.
func (o Owner) Release(ctx context.Context, removed ...Claim) error {
	claims, err := o.Claims()
	if err != nil {
		return err
	}
	var kept []Claim
	for _, claim := range claims {
		if !slices.Contains(removed, claim) {
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

// Plan has the changes that Diff found for the objects of one kind on one connection.
type Plan interface {
	// claims returns what the owner has to claim before anything is created.
	claims() []Claim
	// apply creates and updates. fresh are the claims that were just made.
	apply(ctx context.Context, owner Owner, fresh []Claim) error
	// objects returns all wanted ones, and whether the owner created them.
	objects() []common.ExternalObject
}

type plan[S any] struct {
	driver     Driver[S]
	connection string
	missing    []S
	changed    []change[S]
	added      []Claim
	found      []common.ExternalObject
}

type change[S any] struct{ want, have S }

// Diff compares the wanted objects on one connection with those that exist. It changes nothing.
func Diff[S any](ctx context.Context, owner Owner, driver Driver[S], connection string, wants []S) (Plan, error) {
	claimed, err := owner.Claimed()
	if err != nil {
		return nil, err
	}
	p := &plan[S]{driver: driver, connection: connection}
	for _, want := range wants {
		claim := p.claim(want)
		owned := claimed(claim)
		have, err := driver.Get(ctx, want)
		switch {
		case errors.Is(err, backend.ErrNotFound):
			if err := driver.MayCreate(want); err != nil {
				return nil, err
			}
			p.missing = append(p.missing, want)
			if !owned {
				p.added = append(p.added, claim)
			}
			owned = true
		case err != nil:
			return nil, Explain(driver.Kind, claim.Name, err)
		case owned:
			p.changed = append(p.changed, change[S]{want, have})
		default:
			if err := driver.Usable(want, have); err != nil {
				return nil, err
			}
		}
		p.found = append(p.found, common.ExternalObject{Kind: driver.Kind, Name: claim.Name, Owned: owned})
	}
	return p, nil
}

// Apply carries out plans. It first claims, in one write, what all of them are about to create. It returns all wanted
// objects, and whether the owner created them.
func Apply(ctx context.Context, owner Owner, plans ...Plan) ([]common.ExternalObject, error) {
	var added []Claim
	var out []common.ExternalObject
	for _, p := range plans {
		added = append(added, p.claims()...)
		out = append(out, p.objects()...)
	}
	if len(added) > 0 {
		if err := owner.Claim(ctx, added...); err != nil {
			return nil, err
		}
	}
	for _, p := range plans {
		if err := p.apply(ctx, owner, added); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (p *plan[S]) claim(want S) Claim {
	return Claim{Kind: p.driver.Kind, Name: p.driver.Name(want), Connection: p.connection}
}

func (p *plan[S]) claims() []Claim                  { return p.added }
func (p *plan[S]) objects() []common.ExternalObject { return p.found }

func (p *plan[S]) apply(ctx context.Context, owner Owner, fresh []Claim) error {
	for _, c := range p.changed {
		if err := p.driver.Update(ctx, c.want, c.have); err != nil {
			return Explain(p.driver.Kind, p.driver.Name(c.want), err)
		}
	}
	for _, want := range p.missing {
		if err := p.create(ctx, owner, want, fresh); err != nil {
			return err
		}
	}
	return nil
}

func (p *plan[S]) create(ctx context.Context, owner Owner, want S, fresh []Claim) error {
	claim := p.claim(want)
	err := p.driver.Create(ctx, want)
	if errors.Is(err, backend.ErrExists) && slices.Contains(fresh, claim) {
		// Somebody created it between our comparison and our claim: it is theirs.
		if err := owner.Release(ctx, claim); err != nil {
			return err
		}
		return reconcile.Wait(common.ReasonProgressing, "%s %q appeared meanwhile", claim.Kind, claim.Name)
	}
	if errors.Is(err, backend.ErrExists) {
		return nil
	}
	return Explain(claim.Kind, claim.Name, err)
}

// Drop removes claimed objects. One that is missing counts as removed.
func Drop[S any](ctx context.Context, driver Driver[S], claims ...Claim) error {
	for _, claim := range claims {
		err := driver.Drop(ctx, claim.Name)
		if err != nil && !errors.Is(err, backend.ErrNotFound) {
			return Explain(claim.Kind, claim.Name, fmt.Errorf("delete: %w; or set spec.deletionPolicy to Retain to leave it", err))
		}
	}
	return nil
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

// DropAll removes claimed objects, one after the other.
func DropAll(ctx context.Context, claims []Claim, drop func(context.Context, string) error) error {
	for _, claim := range claims {
		if err := drop(ctx, claim.Name); err != nil && !errors.Is(err, backend.ErrNotFound) {
			return Explain(claim.Kind, claim.Name, fmt.Errorf("delete: %w; or set spec.deletionPolicy to Retain to leave it", err))
		}
	}
	return nil
}
