// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	vaultv1alpha1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
)

// schedule sets when the next rotation is due: one interval after the last one, less a part of the jitter. The part stays
// the same until then.
func (p *pass) schedule() {
	status := &p.secret.Status
	if !p.secret.Rotates() || status.LastRotation == nil {
		status.NextRotation = nil
		return
	}
	interval := p.secret.Spec.Rotation.Interval.Duration
	percent, _ := strconv.Atoi(strings.TrimSuffix(p.secret.Spec.Rotation.Jitter, "%")) // the API accepts only a number
	sum := p.rotationSum()
	early := interval / 100 * time.Duration(percent) / 1000 * time.Duration(binary.BigEndian.Uint16(sum[:2])%1000)
	next := metav1.NewTime(status.LastRotation.Add(interval - early).Truncate(time.Second))
	status.NextRotation = &next
}

// rotationSum returns a hash that stays the same until the next rotation.
func (p *pass) rotationSum() [sha256.Size]byte {
	return sha256.Sum256(fmt.Appendf(nil, "%s %d", p.secret.UID, p.secret.Status.LastRotation.Unix()))
}

// rotationToken returns the idempotency key of a rotation that is due, or "" when none is. After a crash between rotation
// and status, the next manager asks with the same key, and the Vault does not rotate twice.
func (p *pass) rotationToken() string {
	if !p.due() || p.secret.Spec.Version != 0 {
		return ""
	}
	sum := p.rotationSum()
	return hex.EncodeToString(sum[:16])
}

func (p *pass) due() bool {
	next := p.secret.Status.NextRotation
	return next != nil && !p.c.Now().Before(next.Time)
}

// expiry waits when the value in use has expired.
func (p *pass) expiry(context.Context) error {
	at := p.secret.Status.ExpiresAt
	if at == nil || p.c.Now().Before(at.Time) {
		return nil
	}
	return reconcile.Wait(vaultv1alpha1.ReasonExpired, "version %d has expired at %s; write or rotate to a new one",
		p.secret.Status.CurrentVersion, at.UTC().Format(time.RFC3339))
}

// Finish implements reconcile.Pass.
func (p *pass) Finish(ctx context.Context, err error) time.Duration {
	p.rotationCondition()
	p.expiryCondition()
	if err != nil && p.written == 0 {
		if known := meta.FindStatusCondition(p.secret.Status.Conditions, vaultv1alpha1.ConditionSynced); known == nil || known.ObservedGeneration != p.secret.Generation {
			reason, message := reconcile.Classify(err)
			p.synced(metav1.ConditionFalse, reason, message)
		}
	}
	p.consumers(ctx)
	return p.again()
}

func (p *pass) rotationCondition() {
	next := p.secret.Status.NextRotation
	if next == nil {
		meta.RemoveStatusCondition(&p.secret.Status.Conditions, vaultv1alpha1.ConditionRotationDue)
		return
	}
	at := next.UTC().Format(time.RFC3339)
	status, reason, message := metav1.ConditionFalse, vaultv1alpha1.ReasonScheduled, "The next rotation is due at "+at+"."
	switch {
	case p.due() && p.secret.Spec.Version != 0:
		status, reason, message = metav1.ConditionTrue, vaultv1alpha1.ReasonPinned, "A rotation has been due since "+at+"; set spec.version to 0 to let it happen."
	case p.due():
		status, reason, message = metav1.ConditionTrue, vaultv1alpha1.ReasonOverdue, "A rotation has been due since "+at+"; Ready tells what is in the way."
	}
	reconcile.Set(p.secret, vaultv1alpha1.ConditionRotationDue, status, reason, message)
}

func (p *pass) expiryCondition() {
	expires := p.secret.Status.ExpiresAt
	if expires == nil {
		meta.RemoveStatusCondition(&p.secret.Status.Conditions, vaultv1alpha1.ConditionExpiring)
		return
	}
	now, at := p.c.Now(), expires.UTC().Format(time.RFC3339)
	status, reason, message := metav1.ConditionFalse, vaultv1alpha1.ReasonValid, "The value expires at "+at+"."
	switch {
	case !now.Before(expires.Time):
		status, reason, message = metav1.ConditionTrue, vaultv1alpha1.ReasonExpired, "The value has expired at "+at+"."
	case !now.Before(expires.Add(-p.secret.Spec.ExpiryThreshold.Duration)):
		status, reason, message = metav1.ConditionTrue, vaultv1alpha1.ConditionExpiring, "The value expires at "+at+"; write or rotate to a new one."
	}
	reconcile.Set(p.secret, vaultv1alpha1.ConditionExpiring, status, reason, message)
}

// again returns when to reconcile although nothing changes. Package reconcile adds up to a tenth to each delay; a long one
// is split into shrinking ones, so that a rotation in a month is late by seconds, not by days.
func (p *pass) again() time.Duration {
	const short = 10 * time.Second
	now := p.c.Now()
	soonest := p.lookEvery()
	for _, at := range []*metav1.Time{p.secret.Status.NextRotation, p.secret.Status.ExpiresAt, p.threshold()} {
		if at != nil && at.After(now) {
			soonest = min(soonest, at.Sub(now))
		}
	}
	if soonest > short {
		return soonest * 9 / 10
	}
	return max(soonest, 100*time.Millisecond)
}

func (p *pass) threshold() *metav1.Time {
	expires := p.secret.Status.ExpiresAt
	if expires == nil {
		return nil
	}
	return &metav1.Time{Time: expires.Add(-p.secret.Spec.ExpiryThreshold.Duration)}
}
