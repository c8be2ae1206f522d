// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	vaultv1alpha1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/refs"
	vault "github.com/itechsmart/operator/workloads/vault/client"
)

// conflicts refuses a path that an older Secret declares. Any number of Secrets may read it.
func (p *pass) conflicts(ctx context.Context) error {
	if p.secret.Spec.Source.External != nil {
		return nil
	}
	var rivals vaultv1alpha1.SecretList
	key := p.secret.Namespace + "/" + p.secret.StorePath()
	if err := p.c.Client.List(ctx, &rivals, client.MatchingFields{indexPath: key}); err != nil {
		return fmt.Errorf("list Secrets by path: %w", err)
	}
	for i := range rivals.Items {
		rival := &rivals.Items[i]
		if rival.Spec.Source.External == nil && common.Older(rival, p.secret) {
			return reconcile.Stall(common.ReasonConflict, "spec.path: %q is declared by Secret %s, which is older; choose another path", p.secret.StorePath(), rival.Name)
		}
	}
	return nil
}

// reference is one key of a core Secret, and the field that names it.
type reference struct {
	path  string
	field string
	ref   vaultv1alpha1.SecretKeyReference
}

// references returns the keys of core Secrets that a Secret copies.
func references(s *vaultv1alpha1.Secret) []reference {
	from := s.Spec.Source.ValueFrom
	if from == nil {
		return nil
	}
	if from.SecretKeyRef != nil {
		return []reference{{"spec.source.valueFrom.secretKeyRef", vault.MainField(string(s.Spec.Type)), *from.SecretKeyRef}}
	}
	out := make([]reference, 0, len(from.SecretKeyRefs))
	for i, r := range from.SecretKeyRefs {
		out = append(out, reference{fmt.Sprintf("spec.source.valueFrom.secretKeyRefs[%d]", i), r.Field, r.SecretKeyReference})
	}
	return out
}

// identify sets the hash of the declaration. If the metadata watch shows no change of the core Secrets, it does not read
// them.
func (p *pass) identify(ctx context.Context) error {
	if p.secret.Spec.Source.External != nil {
		return nil
	}
	if version := p.sourceVersion(); version != "" && version == p.secret.Status.SourceVersion && p.settled() {
		p.hash = p.secret.Status.SourceHash
		return nil
	}
	return p.declare(ctx)
}

// sourceVersion identifies the versions of the core Secrets that are copied; "" when they are not all known.
func (p *pass) sourceVersion() string {
	var out strings.Builder
	for _, r := range references(p.secret) {
		version := p.c.Refs.Version(client.ObjectKey{Namespace: p.secret.Namespace, Name: r.ref.Name})
		if version == "" {
			return ""
		}
		out.WriteString(version + ";")
	}
	if out.Len() == 0 {
		return ""
	}
	sum := sha256.Sum256([]byte(out.String()))
	return hex.EncodeToString(sum[:8])
}

// declare sets the declaration and its hash. The hash of a copied value is keyed, because a plain one would reveal a short
// value to a brute-force attack.
func (p *pass) declare(ctx context.Context) error {
	if p.declared != nil {
		return nil
	}
	s := p.secret
	declared := &vault.Apply{Type: string(s.Spec.Type), Name: s.Name, Metadata: map[string]string{metadataOwner: s.Namespace + "/" + s.Name}}
	version, err := p.fill(ctx, declared)
	if err != nil {
		return err
	}
	// Marshalling plain fields cannot fail; JSON sorts the keys of maps.
	data, _ := json.Marshal([]any{declared.Type, declared.Name, declared.Sealed, declared.Value, declared.Generate, declared.Issue})
	if declared.Value == nil {
		sum := sha256.Sum256(data)
		p.hash = hex.EncodeToString(sum[:16])
	} else {
		key, err := p.c.macKey(ctx, p.platform)
		if err != nil {
			return err
		}
		p.hash = mac(key, "source", data)
	}
	declared.SourceHash = p.hash
	p.declared, s.Status.SourceVersion = declared, version
	return nil
}

// fill sets the source in the declaration, and returns the version of what was copied.
func (p *pass) fill(ctx context.Context, declared *vault.Apply) (version string, err error) {
	source := p.secret.Spec.Source
	switch {
	case source.Sealed != "":
		declared.Sealed = source.Sealed
	case source.Generate != nil:
		declared.Generate = &vault.Generate{Length: int(source.Generate.Length), Charset: source.Generate.Charset, Prefix: source.Generate.Prefix}
	case source.Issue != nil:
		declared.Issue, err = p.issue(ctx, source.Issue)
	case source.ValueFrom != nil:
		version = p.sourceVersion()
		declared.Value, err = p.copied(ctx)
	}
	return version, err
}

func (p *pass) copied(ctx context.Context) (vault.Value, error) {
	from := refs.From{Group: vaultv1alpha1.GroupVersion.Group, Kind: "Secret", Namespace: p.secret.Namespace}
	out := vault.Value{}
	size := 0
	for _, r := range references(p.secret) {
		found, err := p.c.Refs.Secret(ctx, r.path, from, "", r.ref.Name)
		if err != nil {
			return nil, err
		}
		data, ok := found.Data[r.ref.Key]
		if !ok {
			return nil, reconcile.Stall(common.ReasonReferenceNotFound, "%s: Secret %s has no key %q", r.path, r.ref.Name, r.ref.Key)
		}
		if size += len(data); size > vault.MaxValueBytes {
			return nil, reconcile.Stall(common.ReasonInvalidSpec, "%s: the value has more than %d bytes", r.path, vault.MaxValueBytes)
		}
		out[r.field] = data
	}
	return out, nil
}

// issue returns the certificate to issue. The CA must be a Secret of the namespace.
func (p *pass) issue(ctx context.Context, spec *vaultv1alpha1.Issue) (*vault.Issue, error) {
	out := &vault.Issue{
		CommonName: spec.CommonName, DNSNames: spec.DNSNames, IPAddresses: spec.IPAddresses, CA: spec.CA, TTL: spec.TTL.Duration.String(),
	}
	if spec.CASecretRef == nil {
		return out, nil
	}
	const path = "spec.source.issue.caSecretRef"
	var ca vaultv1alpha1.Secret
	err := p.c.Client.Get(ctx, client.ObjectKey{Namespace: p.secret.Namespace, Name: spec.CASecretRef.Name}, &ca)
	switch {
	case apierrors.IsNotFound(err):
		return nil, &reconcile.Waiting{Reason: common.ReasonReferenceNotFound, After: missingInterval,
			Message: fmt.Sprintf("%s: vault Secret %s does not exist; create it", path, spec.CASecretRef.Name)}
	case err != nil:
		return nil, fmt.Errorf("%s: read Secret: %w", path, err)
	case ca.Spec.Type != vaultv1alpha1.TypeCertificate:
		return nil, reconcile.Stall(common.ReasonInvalidSpec, "%s: vault Secret %s is a %s, not a Certificate", path, ca.Name, ca.Spec.Type)
	case ca.Status.CurrentVersion == 0:
		return nil, &reconcile.Waiting{Reason: common.ReasonReferenceNotReady, After: 10 * time.Second,
			Message: fmt.Sprintf("%s: vault Secret %s has no version yet", path, ca.Name)}
	}
	out.CAPath = ca.StorePath()
	return out, nil
}
