// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega" //nolint:revive,staticcheck // its matchers read as words
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
	"github.com/itechsmart/operator/test/kube"
	"github.com/itechsmart/operator/workloads/config"
)

// TestManagerDiesAtEveryWriteOfAProduct: whatever was made, the next manager goes on with the same credentials and keys.
func TestManagerDiesAtEveryWriteOfAProduct(t *testing.T) {
	_, cfg := ctrltest.Env(t)
	if err := kube.Kubelet(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	for product, desired := range map[string]func() *v1alpha1.Platform{"vault": vaultPlatform, "workflow": workflowPlatform} {
		t.Run(product+" created", func(t *testing.T) {
			kube.EveryWrite(t, 6, func(t *testing.T, at string, when kube.When) (map[string]string, []string, bool) {
				f := newProductCell(t)
				state, writes, died := f.play(at, when, nil, desired())
				return f.normal(product, state), writes, died
			})
		})
		t.Run(product+" removed", func(t *testing.T) {
			kube.EveryWrite(t, 6, func(t *testing.T, at string, when kube.When) (map[string]string, []string, bool) {
				f := newProductCell(t)
				without := desired()
				without.Spec.Products = v1alpha1.Products{}
				state, writes, died := f.play(at, when, desired(), without)
				return f.normal(product, state), writes, died
			})
		})
	}
}

func newProductCell(t *testing.T) *faultCell {
	t.Helper()
	f := newFaultCell(t)
	for _, secret := range []*corev1.Secret{postgresSecret(), rabbitSecret()} {
		secret.Namespace = f.namespace
		if err := f.client.Create(context.Background(), secret); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// normal checks that all that was made fits together, and leaves out what is made at random.
func (f *faultCell) normal(product string, state map[string]string) map[string]string {
	f.t.Helper()
	var hashes []string
	for _, name := range []string{"main-" + product, "main-" + product + "-worker"} {
		var d appsv1.Deployment
		err := f.client.Get(context.Background(), client.ObjectKey{Namespace: f.namespace, Name: name}, &d)
		if client.IgnoreNotFound(err) != nil {
			f.t.Fatal(err)
		}
		if err == nil && name == "main-"+product {
			f.fits(product, &d)
		}
		if err == nil {
			hashes = append(hashes, d.Spec.Template.Annotations[annotationChecksum], "HASH of "+name)
		}
	}
	normal := strings.NewReplacer(append(hashes, strings.ReplaceAll(f.namespace, "-", "__"), "NAMESPACE")...)
	out := map[string]string{}
	for name, text := range state {
		if strings.HasPrefix(name, "Secret main-") && !strings.HasSuffix(name, "-binding") {
			text = "made"
		}
		out[normal.Replace(name)] = normal.Replace(text)
	}
	return out
}

// fits compares what the service is told with the Secrets and with the database.
func (f *faultCell) fits(product string, d *appsv1.Deployment) {
	f.t.Helper()
	read := func(name string) map[string][]byte {
		var secret corev1.Secret
		if err := f.client.Get(context.Background(), client.ObjectKey{Namespace: f.namespace, Name: name}, &secret); err != nil {
			f.t.Fatal(err)
		}
		return secret.Data
	}
	var c config.Service
	if err := json.Unmarshal(read(d.Spec.Template.Spec.Volumes[0].Secret.SecretName)[config.FileName], &c); err != nil {
		f.t.Fatal(err)
	}
	keys, err := decodeKeys(&corev1.Secret{Data: read("main-signing-keys")})
	if err != nil {
		f.t.Fatal(err)
	}
	own := [3]string{"queue in RabbitMQ", "declared", "missing"}
	if product == v1alpha1.ProductVault {
		own = [3]string{"passphrase", c.Vault.Passphrase, string(read("main-vault-unseal")["passphrase"])}
	} else if _, err := f.logins.rabbitmq.Queue(context.Background(), c.Workflow.QueueName); err == nil {
		own[2] = "declared"
	}
	for _, pair := range [][3]string{
		own,
		{"password", c.Database.Binding["password"], string(read("main-" + product + "-database")["password"])},
		{"password in PostgreSQL", c.Database.Binding["password"], f.logins.postgres.Password(tenantName(f.namespace, "main", product))},
		{"identity's password", c.Identity.Binding["password"], string(read("main-identity-database")["password"])},
		{"identity's password in PostgreSQL", c.Identity.Binding["password"], f.logins.postgres.Password(tenantName(f.namespace, "main", "identity"))},
		{"administrator", c.Auth.Administrator.Password, string(read("main-administrator")["password"])},
		{"signing key", fmt.Sprint(len(c.Auth.Keys), c.Auth.Keys[0].Secret), fmt.Sprint(len(keys), keys[0].Secret)},
	} {
		if pair[1] == "" || pair[1] != pair[2] {
			f.t.Errorf("the service's %s is not what was made", pair[0])
		}
	}
	marks := []string{string(read("main-" + product + "-database")["mark"]), string(read("main-identity-database")["mark"])}
	for i, component := range []string{product, "identity"} {
		got, err := f.logins.postgres.Tenant(context.Background(), tenantName(f.namespace, "main", component))
		if err != nil || !slices.Contains(marks[i:i+1], got.Mark) {
			f.t.Errorf("%s: mark %q, %v", component, got.Mark, err)
		}
	}
}

// TestClaimComesBeforeTheDatabase: a manager that dies between the two leaves nothing that a later one does not know.
func TestClaimComesBeforeTheDatabase(t *testing.T) {
	w := serviceWorld(t)
	w.logins.postgres.Fail("EnsureTenant", context.DeadlineExceeded)
	w.create(vaultPlatform())
	w.Eventually(func() int { return w.logins.postgres.Calls("EnsureTenant") }).ShouldNot(BeZero())
	claims := func(p *v1alpha1.Platform) string { return p.Annotations["itechsmart.dev/external-objects"] }
	w.Expect(claims(w.platform("main"))).To(ContainSubstring(tenantName(w.namespace, "main", "vault")))
	w.Expect(w.get("main-vault-unseal", &corev1.Secret{})).To(Succeed(), "what the data will be under is there before the data")
	w.stop()
	w.logins.postgres.Fail("EnsureTenant", nil)
	w.start(mustConfig(t))
	w.ready("main", "True", "Succeeded")
}
