// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/external"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/postgres"
	"github.com/itechsmart/operator/workloads/config"
)

// kindTenant is what claims call a role with its schema.
const kindTenant = "PostgreSQLTenant"

const (
	// connectionsPerPod of a product service, where the server has enough of them; a fifth is for identities.
	connectionsPerPod, leastConnectionsPerPod = 25, 4
	// leastConnections of a pool stay open.
	leastConnections = 10
	// othersConnections of a managed server are left to Pipelines, to the operator and to people.
	othersConnections = 20
)

// connections are the sizes of the pools of a Pod: the service's own and that for identities, and a worker's. A managed
// server's are shared among the Pods that may run at once in a rolling update: the old ones, the new ones, and one more. Else
// a server that has no connection left would refuse requests then.
func connections(spec *v1alpha1.PlatformSpec, kind *productType, product *v1alpha1.ProductSpec) (own, identity, worker int32) {
	perPod := int32(connectionsPerPod)
	if db := spec.Backends.PostgreSQL; db != nil && db.Managed != nil {
		limit, products := maxConnections(db.Managed), int32(0)
		for _, other := range productTypes {
			if other.pick(&spec.Products) != nil {
				products++
			}
		}
		replicas := max(product.Replicas, 1)
		if product.Autoscaling != nil {
			replicas = product.Autoscaling.MaxReplicas
		}
		pods := 2*replicas + 1
		if kind.worker != nil {
			pods += 2*max(kind.worker.pick(&spec.Products).replicas, 1) + 1
		}
		perPod = min(max((limit-othersConnections)/max(products, 1)/pods, leastConnectionsPerPod), perPod)
	}
	identity = max(perPod/5, 2)
	return perPod - identity, identity, perPod
}

// serverTimeout bounds all that one pass does in one server.
const serverTimeout = 20 * time.Second

// openDatabases opens a PostgreSQL server to make roles and schemas in.
type openDatabases func(backend.Binding) (postgres.Tenants, error)

// databases makes roles and schemas.
type databases struct {
	open openDatabases
	*checks
}

// tenant is a role and its schema as they should be.
type tenant struct {
	postgres.Tenant
	password string
	// secret holds password and mark.
	secret string
	// former is the mark that an owned tenant was found with.
	former string
}

// databases makes the product's role and schema, and those that all products share.
func (r *productRun) databases(ctx context.Context) error {
	var err error
	if r.own, err = r.tenant(ctx, r.kind.name); err != nil {
		return err
	}
	if r.identity, err = r.tenant(ctx, componentIdentity); err != nil {
		return err
	}
	wants := []tenant{r.own, r.identity}
	of := checksum([]any{r.platform.UID, r.postgres.Data(), wants[0].Tenant, wants[0].password, wants[1].Tenant, wants[1].password})
	due, left := r.tenants.due(client.ObjectKeyFromObject(r.platform), r.kind.name, of)
	if !due {
		r.again = sooner(r.again, left)
		return nil
	}
	if !r.up(postgresqlBackend) {
		return r.away(postgresqlBackend)
	}
	if err := r.ensureTenants(ctx, wants); err != nil {
		return err
	}
	r.tenants.note(client.ObjectKeyFromObject(r.platform), r.kind.name, of)
	r.again = sooner(r.again, r.tenants.interval)
	return nil
}

// tenant reads, or makes up, what one role and schema should be.
func (r *productRun) tenant(ctx context.Context, component string) (tenant, error) {
	name := databaseName(r.platform.Name, component)
	schema := tenantName(r.platform.Namespace, r.platform.Name, component)
	secret, err := r.keep(ctx, kept{
		name: name, component: component, secretType: corev1.SecretTypeBasicAuth, keys: []string{keyPassword, keyMark, keySchema},
		make: func() (map[string][]byte, error) {
			return map[string][]byte{
				keyUsername: []byte(schema), keyPassword: []byte(password()), keySchema: []byte(schema),
				// What tells our role and schema from those of another cluster on the same server.
				keyMark: []byte("itechsmart.dev " + r.platform.Namespace + "/" + r.platform.Name + " " + strings.ToLower(rand.Text())),
			}, nil
		},
	})
	if err != nil {
		return tenant{}, err
	}
	if got := string(secret.Data[keySchema]); got != schema {
		return tenant{}, reconcile.Stall(common.ReasonInvalidSpec, "Secret %s: key %q is %q, and should be %q", name, keySchema, got, schema)
	}
	return tenant{
		Tenant: postgres.Tenant{Name: schema, Mark: string(secret.Data[keyMark])}, password: string(secret.Data[keyPassword]), secret: name,
	}, nil
}

// ensureTenants makes what is missing. It is claimed first, so that a crash leaves nothing that nobody knows of.
func (r *productRun) ensureTenants(ctx context.Context, wants []tenant) error {
	ctx, cancel := context.WithTimeout(ctx, serverTimeout)
	defer cancel()
	admin, err := r.tenants.open(r.postgres)
	if err != nil {
		return external.Explain(kindTenant, wants[0].Name, err)
	}
	defer func() { _ = admin.Close() }() // what was written is committed
	owner := external.Owner{Client: r.client, Object: r.platform}
	claims, err := owner.Claims()
	if err != nil {
		return err
	}
	connection := r.connection(postgresqlBackend)
	claimed := func(name string) bool {
		for _, claim := range claims {
			if claim == (external.Claim{Kind: kindTenant, Name: name, Connection: connection}) {
				return true
			}
		}
		return false
	}
	plan, err := external.Look(ctx, owner, tenantDriver(admin, claimed), connection, wants)
	if err == nil {
		_, err = external.Make(ctx, owner, plan)
	}
	var refused *reconcile.Failed
	if errors.Is(err, backend.ErrAuth) && errors.As(err, &refused) {
		return reconcile.Fail(refused.Reason, fmt.Errorf("%w: the login of spec.backends.postgresql needs CREATEROLE, and CREATE on its database", refused.Err))
	}
	return err
}

// connection is what claims call a server of the Platform.
func (p *pass) connection(kind *backendType) string {
	return "Platform/" + p.platform.Namespace + "/" + p.platform.Name + "/" + kind.name
}

func tenantDriver(admin postgres.Tenants, claimed func(string) bool) external.Driver[tenant] {
	return external.Driver[tenant]{
		Kind: kindTenant,
		Name: func(t tenant) string { return t.Name },
		Get: func(ctx context.Context, want tenant) (tenant, error) {
			have, err := admin.Tenant(ctx, want.Name)
			if err == nil && have.Mark == want.Mark && !claimed(want.Name) {
				// An earlier Platform of this name made it and left it: it is claimed as if it were to be made.
				return tenant{}, backend.ErrNotFound
			}
			return tenant{Tenant: have, former: have.Mark}, err
		},
		Create: func(ctx context.Context, want tenant) error {
			return admin.EnsureTenant(ctx, want.Tenant, want.password, "")
		},
		Update: func(ctx context.Context, want, have tenant) error {
			err := admin.EnsureTenant(ctx, want.Tenant, want.password, have.former)
			if errors.Is(err, backend.ErrExists) {
				return notOwned(want)
			}
			return err
		},
		Usable:    func(want, _ tenant) error { return notOwned(want) },
		MayCreate: func(tenant) error { return nil },
		Drop: func(ctx context.Context, name string) error {
			for _, drop := range []func(context.Context, string) error{admin.DropSchema, admin.DropRole} {
				if err := drop(ctx, name); err != nil && !errors.Is(err, backend.ErrNotFound) {
					return err
				}
			}
			return nil
		},
	}
}

func notOwned(want tenant) error {
	return &reconcile.Terminal{Reason: common.ReasonNotOwned, After: time.Minute, Message: fmt.Sprintf(
		"role or schema %s exists in PostgreSQL and is not this Platform's: if an earlier Platform of this name left it, restore its Secret %s; "+
			"else remove role and schema, or rename this Platform", want.Name, want.secret)}
}

// binding is how a service logs in as a tenant, with at most so many connections. What only an administrator needs is left out.
func (t tenant) binding(server backend.Binding, connections int32) config.Database {
	b := server
	b.Username, b.Password, b.Extra, b.URI = t.Name, t.password, nil, ""
	b.URI = postgresqlBackend.uri(b)
	return config.Database{Binding: b.Data(), Schema: t.Name, MaxConnections: connections, MinConnections: min(connections, leastConnections)}
}
