// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	vaultv1alpha1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/connections"
	"github.com/itechsmart/operator/controllers/internal/external"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/internal/backend"
	vault "github.com/itechsmart/operator/workloads/vault/client"
)

// settled reports whether the last pass over this generation, perhaps of an earlier manager, found all as declared.
func (p *pass) settled() bool {
	found := meta.FindStatusCondition(p.secret.Status.Conditions, vaultv1alpha1.ConditionSynced)
	return found != nil && found.Status == metav1.ConditionTrue && found.ObservedGeneration == p.secret.Generation && p.secret.Status.StoredAt != nil
}

// store stores the declared value, and records what the Vault says of it. It asks the Vault only when the declaration
// changed, a rotation is due, the service reported a new version, or it has not asked for long.
func (p *pass) store(ctx context.Context) error {
	p.schedule()
	p.rotating = p.rotationToken()
	key, sum := client.ObjectKeyFromObject(p.secret), p.lookSum(p.news())
	p.c.polled.Assume(key, p.lookSum(""), p.lookEvery()) // a new manager trusts the status
	changed := p.c.polled.Differs(key, sum)
	due, _ := p.c.polled.Due(key, sum)
	same := p.settled() && p.hash == p.secret.Status.SourceHash && p.rotating == ""
	if same && !due {
		return nil
	}
	err := p.ask(ctx)
	if err != nil && same && !changed && transient(err) {
		// Nothing has changed: the Secret stays Ready while the Vault is unavailable for a moment.
		p.c.polled.DoneFor(key, sum, staleInterval)
		return nil
	}
	if err == nil {
		p.c.polled.DoneFor(key, p.lookSum(p.news()), p.lookEvery())
	}
	return err
}

// transient reports whether an error may pass without anybody's doing.
func transient(err error) bool {
	reason, _ := reconcile.Classify(err)
	return reason == common.ReasonBackendUnavailable || reason == common.ReasonReferenceNotReady || reason == vaultv1alpha1.ReasonSealed
}

// ask stores or reads the value, and records the answer.
func (p *pass) ask(ctx context.Context) error {
	if _, err := p.vault(); err != nil {
		return err
	}
	found, err := p.stored(ctx)
	if err != nil {
		return p.explain(err)
	}
	if found.Type != string(p.secret.Spec.Type) {
		return reconcile.Stall(common.ReasonInvalidSpec, "spec.type: the value at %q is of type %s", p.secret.StorePath(), found.Type)
	}
	p.note(found)
	if p.secret.Spec.Version == 0 && found.State != "" && found.State != vault.StateLive {
		return p.gone(found.Version, found.State)
	}
	return nil
}

// stored returns what the Vault has now: as declared, or as others wrote it.
func (p *pass) stored(ctx context.Context) (vault.Secret, error) {
	path := p.secret.StorePath()
	if p.secret.Spec.Source.External != nil {
		found, err := p.client.Secret(ctx, path)
		p.secret.Status.SourceHash, p.secret.Status.SourceVersion = "", ""
		if errors.Is(err, backend.ErrNotFound) {
			return found, &reconcile.Waiting{Reason: common.ReasonReferenceNotFound, After: missingInterval,
				Message: fmt.Sprintf("nothing is stored at %q yet; write it by REST, or by vaultctl put", path)}
		}
		return found, err
	}
	if err := p.declare(ctx); err != nil {
		return vault.Secret{}, err
	}
	if err := p.claim(ctx); err != nil {
		return vault.Secret{}, err
	}
	p.declared.Rotation = p.rotating
	applied, err := p.client.Apply(ctx, path, *p.declared)
	if errors.Is(err, backend.ErrNotFound) {
		return vault.Secret{}, &reconcile.Waiting{Reason: common.ReasonReferenceNotReady, After: missingInterval, Message: err.Error()}
	}
	if err != nil {
		return vault.Secret{}, err
	}
	p.secret.Status.SourceHash = p.hash
	return applied.Secret, nil
}

// claim records, before anything is stored, that the value is this resource's. It does not adopt a value that exists
// already, unless a resource of this name stored it.
func (p *pass) claim(ctx context.Context) error {
	owner := external.Owner{Client: p.c.Client, Object: p.secret}
	claimed, err := owner.Claimed()
	if err != nil {
		return err
	}
	mine := p.claimOf(p.platform)
	if claimed(mine) && controllerutil.ContainsFinalizer(p.secret, common.Finalizer) {
		return nil
	}
	found, err := p.client.Secret(ctx, mine.Name)
	switch {
	case errors.Is(err, backend.ErrNotFound):
	case err != nil:
		return err
	case found.Metadata[metadataOwner] != p.secret.Namespace+"/"+p.secret.Name && !claimed(mine):
		return reconcile.Stall(common.ReasonNotOwned,
			"spec.path: a value is stored at %q that this resource did not declare; choose another path, set source.external to use it as it is, or destroy it", mine.Name)
	}
	return owner.Claim(ctx, mine)
}

func (p *pass) claimOf(platform *platformv1alpha1.Platform) external.Claim {
	return external.Claim{Kind: claimKind, Name: p.secret.StorePath(), Connection: connection(platform)}
}

// note records the stored value in the status.
func (p *pass) note(found vault.Secret) {
	status := &p.secret.Status
	if found.Version != status.LatestVersion || status.LastRotation == nil || p.rotating != "" {
		made := found.UpdatedAt
		if p.rotating != "" && status.LastRotation != nil && !made.After(status.LastRotation.Time) {
			made = p.c.Now() // the clocks differ; this rotation is over
		}
		status.LastRotation = &metav1.Time{Time: made.Truncate(time.Second)}
	}
	stored := metav1.NewMicroTime(found.CreatedAt.UTC().Truncate(time.Microsecond))
	if status.StoredAt != nil && !status.StoredAt.Equal(&stored) {
		status.RestartedVersion = -1
	}
	if status.StoredAt == nil || !status.StoredAt.Equal(&stored) {
		status.StoredAt = &stored // equal times of two zones would be two statuses
	}
	status.LatestVersion, status.Versions, status.KeyID = found.Version, found.Versions, found.KeyID
	status.CurrentVersion = p.wanted()
	if p.secret.Spec.Version == 0 {
		status.ExpiresAt = timeOf(found.ExpiresAt)
	}
	p.rotating = ""
	p.schedule()
	if !found.KeyStale {
		reconcile.Set(p.secret, vaultv1alpha1.ConditionKeyStale, metav1.ConditionFalse, vaultv1alpha1.ReasonCurrent, "The newest version is under the root key in use.")
		return
	}
	reconcile.Set(p.secret, vaultv1alpha1.ConditionKeyStale, metav1.ConditionTrue, vaultv1alpha1.ReasonRewrapPending,
		"The newest version is still under an older root key; a re-wrap mends that: POST /api/v1/rewrap")
}

func timeOf(t *time.Time) *metav1.Time {
	if t == nil {
		return nil
	}
	return &metav1.Time{Time: t.Truncate(time.Second)}
}

// wanted returns the version to use.
func (p *pass) wanted() int64 {
	if p.secret.Spec.Version != 0 {
		return p.secret.Spec.Version
	}
	return p.secret.Status.LatestVersion
}

// news returns the version that the service reported, or "" when the status has it.
func (p *pass) news() string {
	reported := p.secret.Annotations[vaultv1alpha1.AnnotationVersion]
	if reported == strconv.FormatInt(p.secret.Status.LatestVersion, 10) {
		return ""
	}
	return reported
}

// lookSum identifies what the status says of the stored value, and the version that the service reported. A status that
// lacks what the Vault last answered was not written, or is not in the cache yet; it has another sum, so that the Vault is
// asked again.
func (p *pass) lookSum(news string) string {
	return fmt.Sprintf("%s %d %s", p.secret.UID, p.secret.Status.LatestVersion, news)
}

// lookEvery returns how often the Vault is asked although nothing changed.
func (p *pass) lookEvery() time.Duration {
	stale := meta.IsStatusConditionTrue(p.secret.Status.Conditions, vaultv1alpha1.ConditionKeyStale)
	refresh := p.secret.Spec.Refresh
	switch {
	case stale:
		return staleInterval
	case refresh.Policy == vaultv1alpha1.RefreshPeriodic && refresh.Interval != nil:
		return refresh.Interval.Duration
	case refresh.Policy == vaultv1alpha1.RefreshPeriodic:
		return periodicInterval
	default:
		return pollInterval
	}
}

// Finalize removes the stored value if deletionPolicy says so and this resource declared it. When the Platform is gone, so is
// the value.
func (p *pass) Finalize(ctx context.Context) error {
	if p.secret.Spec.DeletionPolicy != common.DeletionDelete {
		return nil
	}
	claims, err := external.Owner{Client: p.c.Client, Object: p.secret}.Claims()
	if err != nil {
		return err
	}
	for _, claim := range claims {
		if err := p.destroy(ctx, claim); err != nil {
			return err
		}
	}
	return nil
}

func (p *pass) destroy(ctx context.Context, claim external.Claim) error {
	target, ok := connections.ParseTarget(claim.Connection)
	if claim.Kind != claimKind || !ok || target.Kind != string(common.ConnectionPlatform) || target.Namespace != p.secret.Namespace {
		return claim.Unreadable()
	}
	platform, vaultService, err := platformOf(ctx, p.c.Client, p.secret.Namespace, &common.PlatformReference{Name: target.Name})
	if reason, _ := classify(err); reason == common.ReasonReferenceNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	p.platform, p.service, p.client = platform, vaultService, nil
	if _, err := p.vault(); err != nil {
		return err
	}
	if err := p.client.Delete(ctx, claim.Name, true); err != nil && !errors.Is(err, backend.ErrNotFound) {
		return p.explain(err)
	}
	return nil
}

// classify returns reconcile.Classify, and returns no reason for no error.
func classify(err error) (reason, message string) {
	if err == nil {
		return "", ""
	}
	return reconcile.Classify(err)
}
