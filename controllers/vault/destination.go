// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	vaultv1alpha1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/internal/backend"
	vault "github.com/itechsmart/operator/workloads/vault/client"
)

func (p *pass) synced(status metav1.ConditionStatus, reason, message string) {
	reconcile.Set(p.secret, vaultv1alpha1.ConditionSynced, status, reason, message)
}

// sync writes the version in use to the destination. As long as its HMAC matches, nothing is read from the Vault.
func (p *pass) sync(ctx context.Context) error {
	if p.secret.Spec.Destination == nil {
		p.secret.Status.DataMAC = ""
		p.synced(metav1.ConditionTrue, vaultv1alpha1.ReasonNoDestination, "The value is read by REST.")
		return nil
	}
	err := p.syncDestination(ctx)
	if err != nil {
		reason, message := reconcile.Classify(err)
		p.synced(metav1.ConditionFalse, reason, message)
	}
	return err
}

func (p *pass) syncDestination(ctx context.Context) error {
	name := p.secret.DestinationName()
	current, err := p.current(ctx, name)
	if err != nil {
		return err
	}
	if current != nil && !p.owns(current) {
		return reconcile.Stall(common.ReasonNotOwned,
			"spec.destination.name: Secret %s exists and was not made by this resource; remove it, or choose another name", name)
	}
	want := p.wanted()
	once := p.secret.Spec.Refresh.Policy == vaultv1alpha1.RefreshCreatedOnce && current != nil
	asWanted := false
	if current != nil && !once {
		if asWanted, err = p.asWanted(ctx, current, want); err != nil {
			return err
		}
	}
	if !asWanted && !once {
		if err := p.write(ctx, current, want); err != nil {
			return err
		}
	}
	p.written = want
	if once {
		p.written, _ = strconv.ParseInt(current.Annotations[vaultv1alpha1.AnnotationVersion], 10, 64) // 0 when somebody removed it
	}
	p.secret.Status.CurrentVersion = p.written
	p.synced(metav1.ConditionTrue, common.ReasonSucceeded, fmt.Sprintf("Secret %s holds version %d.", name, p.written))
	return nil
}

// current returns the core Secret of that name, or nil when there is none. The cache holds the operator's own Secrets. Of
// foreign ones only the names are known; they are read from the API server to find the owner.
func (p *pass) current(ctx context.Context, name string) (*corev1.Secret, error) {
	key := client.ObjectKey{Namespace: p.secret.Namespace, Name: name}
	var found corev1.Secret
	err := p.c.Client.Get(ctx, key, &found)
	if err == nil {
		return &found, nil
	}
	if !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("read destination: %w", err)
	}
	if version, watched := p.c.Refs.Names.Version(key); watched && version == "" {
		return nil, nil
	}
	err = p.c.Refs.Live.Get(ctx, key, &found)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read destination: %w", err)
	}
	return &found, nil
}

// owns reports whether a core Secret is this resource's: by owner reference or, when it outlives its owner, by labels.
func (p *pass) owns(secret *corev1.Secret) bool {
	if owner := metav1.GetControllerOf(secret); owner != nil {
		return owner.UID == p.secret.UID
	}
	return secret.Labels[common.LabelOwnerKind] == ownerKind && secret.Labels[common.LabelOwnerName] == instance(p.secret.Name) &&
		secret.Annotations[vaultv1alpha1.AnnotationSecret] == p.secret.Name
}

// asWanted reports whether the destination is as the last pass left it, for this generation and version.
func (p *pass) asWanted(ctx context.Context, current *corev1.Secret, version int64) (bool, error) {
	status := p.secret.Status
	if !p.settled() || status.Destination != current.Name ||
		current.Annotations[vaultv1alpha1.AnnotationVersion] != strconv.FormatInt(version, 10) {
		return false, nil
	}
	shaped := current.DeepCopy()
	if err := p.shape(shaped, version); err != nil {
		return false, err
	}
	if !equality.Semantic.DeepEqual(shaped, current) {
		return false, nil
	}
	key, err := p.c.macKey(ctx, p.platform)
	if err != nil {
		return false, err
	}
	return dataMAC(key, current.Type, current.Data) == status.DataMAC, nil
}

// write reads the value from the Vault and writes it to the destination. It creates a missing one, which fails if somebody
// else has created it meanwhile, and patches an existing one only at the version that it has read.
func (p *pass) write(ctx context.Context, current *corev1.Secret, version int64) error {
	data, err := p.value(ctx, version)
	if err != nil {
		return err
	}
	key, err := p.c.macKey(ctx, p.platform)
	if err != nil {
		return err
	}
	desired := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: p.secret.DestinationName(), Namespace: p.secret.Namespace}, Type: p.coreType()}
	if current != nil {
		desired = current.DeepCopy()
	}
	desired.Data = data
	if err := p.shape(desired, version); err != nil {
		return err
	}
	switch {
	case current == nil:
		err = p.c.Client.Create(ctx, desired, client.FieldOwner(common.FieldOwner))
		if apierrors.IsAlreadyExists(err) {
			return &reconcile.Waiting{Reason: common.ReasonProgressing, Message: fmt.Sprintf("Secret %s appeared meanwhile", desired.Name), After: time.Second}
		}
	case equality.Semantic.DeepEqual(current, desired):
	case current.Type != p.coreType():
		return reconcile.Stall(common.ReasonNotOwned, "spec.destination.type: Secret %s is of type %s, which cannot change; remove it, or choose another name", current.Name, current.Type)
	default:
		patch := client.MergeFromWithOptions(current, client.MergeFromWithOptimisticLock{})
		err = p.c.Client.Patch(ctx, desired, patch, client.FieldOwner(common.FieldOwner))
	}
	if apierrors.IsInvalid(err) {
		return &reconcile.Terminal{Reason: common.ReasonInvalidSpec, Message: fmt.Sprintf("spec.destination: the API server refuses Secret %s as of type %s with keys %v",
			desired.Name, desired.Type, slices.Sorted(maps.Keys(data)))} // the server's message could quote a value
	}
	if err != nil {
		return fmt.Errorf("write destination: %w", err)
	}
	p.secret.Status.DataMAC = dataMAC(key, desired.Type, desired.Data)
	return nil
}

// value renders the content of the destination from a version.
func (p *pass) value(ctx context.Context, version int64) (map[string][]byte, error) {
	if _, err := p.vault(); err != nil {
		return nil, err
	}
	read, err := p.client.Read(ctx, p.secret.StorePath(), version)
	if errors.Is(err, backend.ErrNotFound) {
		return nil, p.gone(version, "missing or deleted")
	}
	if errors.Is(err, vault.ErrStreamed) {
		return nil, reconcile.Stall(vaultv1alpha1.ReasonFileTooLarge, "spec.destination: version %d of %q has over 1 MiB, and a core Secret cannot hold it; "+
			"remove the destination, and read the file by GET /api/v1/secrets/{path}/content or vaultctl get", version, p.secret.StorePath())
	}
	if err != nil {
		return nil, p.explain(err)
	}
	p.secret.Status.ExpiresAt = timeOf(read.ExpiresAt)
	data, err := render(p.secret, read.Value, version)
	if err != nil {
		return nil, &reconcile.Terminal{Reason: vaultv1alpha1.ReasonTemplateFailed, Message: err.Error()}
	}
	return data, nil
}

// gone returns the error for a version that cannot be read. The destination stays as it is, for those who use it.
func (p *pass) gone(version int64, state string) error {
	message := fmt.Sprintf("version %d of %q is %s; undelete it, write a new one, or set spec.version to one that exists", version, p.secret.StorePath(), state)
	p.synced(metav1.ConditionFalse, vaultv1alpha1.ReasonVersionNotFound, message)
	return &reconcile.Terminal{Reason: vaultv1alpha1.ReasonVersionNotFound, After: missingInterval, Message: message}
}

func (p *pass) coreType() corev1.SecretType {
	d := p.secret.Spec.Destination
	switch {
	case d.Type != "":
		return corev1.SecretType(d.Type)
	case p.secret.Spec.Type == vaultv1alpha1.TypeCertificate && len(d.Template) == 0:
		return corev1.SecretTypeTLS
	default:
		return corev1.SecretTypeOpaque
	}
}

// shape sets labels, annotations and the owner, and keeps what others have added.
func (p *pass) shape(secret *corev1.Secret, version int64) error {
	labels := maps.Clone(secret.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	for key, value := range p.secret.Spec.Destination.Labels {
		labels[key] = string(value)
	}
	maps.Copy(labels, labelsOf(p.secret))
	annotations := maps.Clone(secret.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[vaultv1alpha1.AnnotationSecret] = p.secret.Name
	annotations[vaultv1alpha1.AnnotationVersion] = strconv.FormatInt(version, 10)
	annotations[vaultv1alpha1.AnnotationStored] = p.secret.Status.StoredAt.UTC().Format(time.RFC3339Nano)
	secret.Labels, secret.Annotations = labels, annotations
	if p.secret.Spec.Destination.DeletionPolicy != common.DeletionDelete {
		// Without an owner reference it outlives the resource. A later resource of the same name finds it by its labels.
		secret.OwnerReferences = slices.DeleteFunc(slices.Clone(secret.OwnerReferences), func(r metav1.OwnerReference) bool { return r.UID == p.secret.UID })
		return nil
	}
	if err := controllerutil.SetControllerReference(p.secret, secret, p.c.Client.Scheme()); err != nil {
		return fmt.Errorf("own destination: %w", err)
	}
	return nil
}

// leave removes the core Secret of an earlier specification, unless it is to be retained, and records the current one.
func (p *pass) leave(ctx context.Context) error {
	old, name := p.secret.Status.Destination, p.secret.DestinationName()
	if old == name {
		return nil
	}
	if old != "" {
		if err := p.remove(ctx, old); err != nil {
			return err
		}
	}
	p.secret.Status.Destination = name
	return nil
}

// remove deletes a core Secret that has this resource as its owner, and so was written with policy Delete. It reads from
// the API server: this is the only attempt, and a Secret that the cache does not have yet would stay, with its value.
func (p *pass) remove(ctx context.Context, name string) error {
	var found corev1.Secret
	err := p.c.Refs.Live.Get(ctx, client.ObjectKey{Namespace: p.secret.Namespace, Name: name}, &found)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read former destination: %w", err)
	}
	if !metav1.IsControlledBy(&found, p.secret) {
		return nil
	}
	uid := found.UID
	if err := p.c.Client.Delete(ctx, &found, client.Preconditions{UID: &uid}); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete former destination: %w", err)
	}
	return nil
}
