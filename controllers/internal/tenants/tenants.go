// SPDX-License-Identifier: Apache-2.0

// Package tenants makes roles and schemas in PostgreSQL for services: one role that owns one schema, and nothing else.
package tenants

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/external"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/retained"
	"github.com/itechsmart/operator/controllers/internal/workload"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/postgres"
	"github.com/itechsmart/operator/workloads/config"
)

const (
	// Kind of a role with its schema, in claims.
	Kind = "PostgreSQLTenant"
	// Timeout bounds all that one pass does in one server.
	Timeout = 20 * time.Second
	// prefix begins the names of roles and schemas; longest is PostgreSQL's bound for names, in bytes.
	prefix, longest = "itechsmart_", 63
	// leastConnections of a pool stay open.
	leastConnections = 2
	// Keys of a tenant's Secret.
	keyUsername, keyPassword, keyMark, keySchema = "username", "password", "mark", "schema"
)

// Open opens a PostgreSQL server to make roles and schemas in.
type Open func(backend.Binding) (postgres.Tenants, error)

// Tenant is a role and its schema as they should be.
type Tenant struct {
	postgres.Tenant
	Password string
	// Secret holds password and mark.
	Secret string
	// former is the mark that an owned tenant was found with.
	former string
}

// Name returns the name of a component's role and schema: itechsmart_<namespace>_<platform>_<component>. A hyphen becomes two
// underscores, so that no two triples have one name; what is too long ends in a hash.
func Name(namespace, platform, component string) string {
	plain := strings.ReplaceAll(namespace+"_"+platform+"_"+component, "-", "__")
	name := prefix + plain
	if len(name) <= longest {
		return name
	}
	sum := sha256.Sum256([]byte(plain))
	hash := "_" + hex.EncodeToString(sum[:8])
	return name[:longest-len(hash)] + hash
}

// SecretName returns the Secret with the credentials of a component's schema.
func SecretName(platform, component string) string {
	return common.ServiceName(platform, component) + "-database"
}

// Ensure reads from its Secret, or decides, what a component's role and schema should be. It touches no server.
func Ensure(ctx context.Context, owner retained.Owner, platform, component string, labels map[string]string) (Tenant, error) {
	namespace := owner.Object.GetNamespace()
	schema := Name(namespace, platform, component)
	secret, err := owner.Ensure(ctx, retained.Secret{
		Name: SecretName(platform, component), Labels: labels, Type: corev1.SecretTypeBasicAuth, Keys: []string{keyPassword, keyMark, keySchema},
		Make: func() (map[string][]byte, error) {
			return map[string][]byte{
				keyUsername: []byte(schema), keyPassword: []byte(workload.Password()), keySchema: []byte(schema),
				// The mark distinguishes our role and schema from those of another cluster on the same server.
				keyMark: []byte("itechsmart.dev " + namespace + "/" + platform + " " + strings.ToLower(rand.Text())),
			}, nil
		},
	})
	if err != nil {
		return Tenant{}, err
	}
	return Read(secret, schema)
}

// Read returns the tenant of a Secret that holds the named schema.
func Read(secret *corev1.Secret, schema string) (Tenant, error) {
	if got := string(secret.Data[keySchema]); got != schema {
		return Tenant{}, reconcile.Stall(common.ReasonInvalidSpec, "Secret %s: key %q is %q, and should be %q", secret.Name, keySchema, got, schema)
	}
	return Tenant{
		Tenant: postgres.Tenant{Name: schema, Mark: string(secret.Data[keyMark])}, Password: string(secret.Data[keyPassword]), Secret: secret.Name,
	}, nil
}

// Checksum changes with what Make would do on that server for that owner.
func (t *Tenant) Checksum(owner external.Owner, server backend.Binding) string {
	return workload.Checksum([]any{owner.Object.GetUID(), server.Data(), t.Tenant, t.Password})
}

// Make creates what is missing. It claims the tenant first, so that a crash leaves no unknown object.
func Make(ctx context.Context, open Open, owner external.Owner, connection string, server backend.Binding, want Tenant) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	admin, err := open(server)
	if err != nil {
		return external.Explain(Kind, want.Name, err)
	}
	defer func() { _ = admin.Close() }() // what was written is committed
	claims, err := owner.Claims()
	if err != nil {
		return err
	}
	claimed := slices.Contains(claims, external.Claim{Kind: Kind, Name: want.Name, Connection: connection})
	plan, err := external.Diff(ctx, owner, driver(admin, claimed), connection, []Tenant{want})
	if err == nil {
		_, err = external.Apply(ctx, owner, plan)
	}
	var refused *reconcile.Failed
	if errors.Is(err, backend.ErrAuth) && errors.As(err, &refused) {
		return reconcile.Fail(refused.Reason, fmt.Errorf("%w: the login of spec.backends.postgresql needs CREATEROLE, and CREATE on its database", refused.Err))
	}
	return err
}

// Drop drops claimed roles with their schemas, and what they hold.
func Drop(ctx context.Context, open Open, server backend.Binding, claims []external.Claim) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	admin, err := open(server)
	if err != nil {
		return external.Explain(Kind, claims[0].Name, err)
	}
	defer func() { _ = admin.Close() }() // what was dropped is committed
	return external.DropAll(ctx, claims, driver(admin, true).Drop)
}

func driver(admin postgres.Tenants, claimed bool) external.Driver[Tenant] {
	return external.Driver[Tenant]{
		Kind: Kind,
		Name: func(t Tenant) string { return t.Name },
		Get: func(ctx context.Context, want Tenant) (Tenant, error) {
			have, err := admin.Tenant(ctx, want.Name)
			if err == nil && have.Mark == want.Mark && !claimed {
				// An earlier Platform of this name made it and left it: it is claimed as if it were to be made.
				return Tenant{}, backend.ErrNotFound
			}
			return Tenant{Tenant: have, former: have.Mark}, err
		},
		Create: func(ctx context.Context, want Tenant) error {
			return admin.EnsureTenant(ctx, want.Tenant, want.Password, "")
		},
		Update: func(ctx context.Context, want, have Tenant) error {
			err := admin.EnsureTenant(ctx, want.Tenant, want.Password, have.former)
			if errors.Is(err, backend.ErrExists) {
				return notOwned(want)
			}
			return err
		},
		Usable:    func(want, _ Tenant) error { return notOwned(want) },
		MayCreate: func(Tenant) error { return nil },
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

func notOwned(want Tenant) error {
	return &reconcile.Terminal{Reason: common.ReasonNotOwned, After: time.Minute, Message: fmt.Sprintf(
		"role or schema %s exists in PostgreSQL and is not this Platform's: if an earlier one left it, restore its Secret %s; "+
			"else remove role and schema, or rename the Platform", want.Name, want.Secret)}
}

// Binding returns how a service logs in as the tenant, with a maximum number of connections. What only an administrator needs is left
// out.
func (t *Tenant) Binding(server backend.Binding, connections int32) config.Database {
	b := server
	b.Username, b.Password, b.Extra, b.URI = t.Name, t.Password, nil, ""
	b.URI = postgres.URI(b)
	return config.Database{Binding: b.Data(), Schema: t.Name, MaxConnections: connections, MinConnections: min(connections, leastConnections)}
}
