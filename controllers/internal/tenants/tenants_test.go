// SPDX-License-Identifier: Apache-2.0

package tenants

import (
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/external"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/retained"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/postgres"
)

const connection = "Platform/tenant/main/postgresql"

var server = backend.Binding{Type: "postgresql", Host: "db", Port: "5432", Username: "admin", Password: "canary", Database: "app", Extra: map[string]string{"superuser-token": "canary"}}

func TestTenantNames(t *testing.T) {
	seen := map[string]string{}
	long := strings.Repeat("a", 63)
	for _, triple := range [][3]string{
		{"team", "main", "echo"}, {"team", "main", "identity"}, {"a-b", "c", "echo"}, {"a", "b-c", "echo"}, {"a--b", "c", "echo"},
		{"1", "m", "echo"}, {long, "main", "echo"}, {long, "main", "identity"}, {long, "maim", "echo"}, {long[:62] + "b", "main", "echo"},
	} {
		name := Name(triple[0], triple[1], triple[2])
		if err := postgres.ValidIdentifier(name); err != nil || !regexp.MustCompile(`^[a-z0-9_]+$`).MatchString(name) {
			t.Errorf("%v: %q, %v", triple, name, err)
		}
		if other, twice := seen[name]; twice {
			t.Errorf("%v and %s share %q", triple, other, name)
		}
		seen[name] = strings.Join(triple[:], "/")
	}
	if got := Name("team", "main", "echo"); got != "itechsmart_team_main_echo" {
		t.Errorf("got %q", got)
	}
}

// cell is a resource whose tenant is made in a fake PostgreSQL.
type cell struct {
	t        *testing.T
	client   client.Client
	object   *corev1.ConfigMap
	postgres *postgres.Fake
}

func newCell(t *testing.T, databases *postgres.Fake, objects ...client.Object) *cell {
	t.Helper()
	c := &cell{t: t, postgres: databases, object: &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "tenant", Name: "main"}}}
	c.client = fake.NewClientBuilder().WithObjects(objects...).Build()
	if err := c.client.Create(t.Context(), c.object); err != nil {
		t.Fatal(err)
	}
	c.object.UID = "1"
	return c
}

func (c *cell) owner() external.Owner { return external.Owner{Client: c.client, Object: c.object} }

func (c *cell) ensure() Tenant {
	c.t.Helper()
	keeper := retained.Owner{Client: c.client, Live: c.client, Object: c.object, Policy: common.DeletionRetain}
	tenant, err := Ensure(c.t.Context(), keeper, "main", "echo", map[string]string{common.LabelComponent: "echo"})
	if err != nil {
		c.t.Fatal(err)
	}
	return tenant
}

func (c *cell) make(tenant Tenant) error {
	return Make(c.t.Context(), func(backend.Binding) (postgres.Tenants, error) { return c.postgres, nil }, c.owner(), connection, server, tenant)
}

func (c *cell) claims() []external.Claim {
	c.t.Helper()
	claims, err := c.owner().Claims()
	if err != nil {
		c.t.Fatal(err)
	}
	return claims
}

func TestTenantLife(t *testing.T) {
	c := newCell(t, postgres.NewFake())
	tenant := c.ensure()
	if again := c.ensure(); again != tenant {
		t.Error("a second pass makes other credentials")
	}
	tenant.Connections = 15
	for _, limit := range []int32{15, 40, 0} { // set, changed, removed
		tenant.Connections = limit
		if err := c.make(tenant); err != nil {
			t.Fatal(err)
		}
		if got, err := c.postgres.Tenant(t.Context(), tenant.Name); err != nil || got != tenant.Tenant {
			t.Errorf("got %+v, %v; want %+v", got, err, tenant.Tenant)
		}
	}
	if got := c.postgres.Password(tenant.Name); got != tenant.Password {
		t.Error("the password is not the Secret's")
	}
	claims := c.claims()
	if len(claims) != 1 || claims[0] != (external.Claim{Kind: Kind, Name: tenant.Name, Connection: connection}) {
		t.Errorf("claims %v", claims)
	}
	open := func(backend.Binding) (postgres.Tenants, error) { return c.postgres, nil }
	for range 2 { // what is gone counts as dropped
		if err := Drop(t.Context(), open, server, claims); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.postgres.Tenant(t.Context(), tenant.Name); err == nil {
		t.Error("it is still there")
	}
}

// A later owner, whose Secret was retained, finds role and schema again.
func TestTenantIsFoundAgain(t *testing.T) {
	first := newCell(t, postgres.NewFake())
	tenant := first.ensure()
	if err := first.make(tenant); err != nil {
		t.Fatal(err)
	}
	var secret corev1.Secret
	if err := first.client.Get(t.Context(), client.ObjectKey{Namespace: "tenant", Name: SecretName("main", "echo")}, &secret); err != nil {
		t.Fatal(err)
	}
	secret.ResourceVersion = ""
	later := newCell(t, first.postgres, &secret)
	again := later.ensure()
	if err := later.make(again); err != nil || again != tenant || len(later.claims()) != 1 {
		t.Errorf("%v, claims %v", err, later.claims())
	}
}

func TestForeignTenantIsNotTaken(t *testing.T) {
	c := newCell(t, postgres.NewFake())
	tenant := c.ensure()
	if err := c.postgres.EnsureTenant(t.Context(), postgres.Tenant{Name: tenant.Name, Mark: "another cluster's"}, "theirs", ""); err != nil {
		t.Fatal(err)
	}
	reason, message := reconcile.Classify(c.make(tenant))
	if reason != common.ReasonNotOwned || !strings.Contains(message, tenant.Name) || len(c.claims()) != 0 || c.postgres.Password(tenant.Name) != "theirs" {
		t.Errorf("%s: %s; claims %v", reason, message, c.claims())
	}
}

func TestTenantWithoutRights(t *testing.T) {
	c := newCell(t, postgres.NewFake())
	c.postgres.Fail("EnsureTenant", backend.ErrAuth)
	reason, message := reconcile.Classify(c.make(c.ensure()))
	if reason != common.ReasonAccessDenied || !strings.Contains(message, "needs CREATEROLE") {
		t.Errorf("%s: %s", reason, message)
	}
}

// TestChecksum: whatever Make would do differently makes another sum.
func TestChecksum(t *testing.T) {
	c := newCell(t, postgres.NewFake())
	tenant := c.ensure()
	sums := map[string]bool{tenant.Checksum(c.owner(), server): true}
	limited, renewed, elsewhere := tenant, tenant, server
	limited.Connections, renewed.Password, elsewhere.Host = 7, "another", "db-2"
	for _, sum := range []string{limited.Checksum(c.owner(), server), renewed.Checksum(c.owner(), server), tenant.Checksum(c.owner(), elsewhere)} {
		if sums[sum] {
			t.Error("two states have one checksum")
		}
		sums[sum] = true
	}
}

func TestSecretOfAnotherSchema(t *testing.T) {
	_, err := Read(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "main-echo-database"}, Data: map[string][]byte{keySchema: []byte("public")}}, "mine")
	if reason, message := reconcile.Classify(err); reason != common.ReasonInvalidSpec || !strings.Contains(message, `is "public", and should be "mine"`) {
		t.Errorf("%s: %s", reason, message)
	}
}

// A service gets no credentials but its own.
func TestBinding(t *testing.T) {
	tenant := Tenant{Tenant: postgres.Tenant{Name: "itechsmart_a"}, Password: "own"}
	got := tenant.Binding(server, 7)
	if got.Schema != "itechsmart_a" || got.MaxConnections != 7 || got.MinConnections != 2 || got.Binding["username"] != "itechsmart_a" || got.Binding["password"] != "own" {
		t.Errorf("got %+v", got)
	}
	for key, value := range got.Binding {
		if strings.Contains(value, "canary") || key == "superuser-token" {
			t.Errorf("key %s has what is not the service's", key)
		}
	}
	if one := tenant.Binding(server, 1); one.MinConnections != 1 {
		t.Errorf("at most one connection, and %d stay open", one.MinConnections)
	}
}
