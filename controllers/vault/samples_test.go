// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"sigs.k8s.io/yaml"

	vaultv1alpha1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
	vault "github.com/itechsmart/operator/workloads/vault/client"
)

// TestSamplesRender checks what no API server does: templates and conditions of the samples.
func TestSamplesRender(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(ctrltest.Root(), "config", "samples", "vault-*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("samples: %v, %v", files, err)
	}
	templates, conditions := 0, 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, document := range bytes.Split(data, []byte("\n---\n")) {
			var s vaultv1alpha1.Secret
			var p vaultv1alpha1.AccessPolicy
			if !bytes.Contains(document, []byte("apiVersion: vault.itechsmart.dev/")) {
				continue
			}
			if bytes.Contains(document, []byte("\nkind: AccessPolicy\n")) {
				err = yaml.UnmarshalStrict(document, &p)
			} else {
				err = yaml.UnmarshalStrict(document, &s)
			}
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			conditions += len(p.Spec.Rules) + len(s.Spec.Access)
			if invalid := append(validatePolicy(&p), validateSecret(&s)...); len(invalid) > 0 {
				t.Errorf("%s: %v", file, invalid.ToAggregate())
			}
			if s.Spec.Destination != nil {
				templates += len(s.Spec.Destination.Template)
				if _, err := render(&s, vault.Value{vault.MainField(string(s.Spec.Type)): []byte("x")}, 1); err != nil {
					t.Errorf("%s: %v", file, err)
				}
			}
		}
	}
	if templates == 0 || conditions == 0 {
		t.Errorf("%d templates and %d conditions were checked", templates, conditions)
	}
}
