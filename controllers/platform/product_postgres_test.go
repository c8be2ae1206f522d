// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"testing"
	"time"

	. "github.com/onsi/gomega" //nolint:revive,staticcheck // its matchers read as words
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
	"github.com/itechsmart/operator/controllers/internal/setup"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/internal/backend/postgres"
	"github.com/itechsmart/operator/workloads/config"
)

func mustConfig(t *testing.T) *rest.Config {
	t.Helper()
	_, cfg := ctrltest.Env(t)
	return cfg
}

// TestProductOnPostgreSQL runs with a real server, from the Platform to the login of the service, and to the end.
func TestProductOnPostgreSQL(t *testing.T) {
	server := servers.StartPostgres(t)
	c, cfg := ctrltest.Env(t)
	w := &world{WithT: NewWithT(t), t: t, client: c, namespace: ctrltest.Namespace(t), logins: newLogins()}
	w.SetDefaultEventuallyTimeout(ctrltest.Timeout)
	w.SetDefaultEventuallyPollingInterval(ctrltest.Interval)
	w.stop = ctrltest.Start(t, cfg, setup.Options{Namespaces: []string{w.namespace}, DriftInterval: time.Second}, Setup)
	w.keepServing()
	w.create(binding("database", server.Binding.Data()))
	p := vaultPlatform()
	p.Spec.DeletionPolicy = common.DeletionDelete
	w.create(p)
	w.ready("main", metav1.ConditionTrue, common.ReasonSucceeded)
	told := w.told()

	// The service logs in, works in its schema, and sees nothing of the other's.
	for _, test := range []struct {
		name       string
		own, other config.Database
	}{{"product", told.Database, told.Identity}, {"identity", told.Identity, told.Database}} {
		pool, err := postgres.Open(ctx, backend.ParseBinding(test.own.Binding))
		w.Expect(err).NotTo(HaveOccurred())
		_, err = pool.Exec(ctx, "CREATE TABLE notes (text text)")
		w.Expect(err).NotTo(HaveOccurred(), test.name)
		var schema string
		w.Expect(pool.QueryRow(ctx, "SELECT schemaname FROM pg_tables WHERE tablename = 'notes' AND tableowner = current_user").Scan(&schema)).To(Succeed())
		w.Expect(schema).To(Equal(test.own.Schema))
		_, err = pool.Exec(ctx, "CREATE TABLE "+postgres.Quote(test.other.Schema, "mine")+" (a int)")
		w.Expect(postgres.Error(server.Binding, "write", err)).To(MatchError(backend.ErrAuth), test.name)
		pool.Close()
	}

	// Drift in the server is reverted: a password that somebody changed is what the Secret says again.
	admin, err := postgres.NewTenants(server.Binding)
	w.Expect(err).NotTo(HaveOccurred())
	defer admin.Close() //nolint:errcheck // the test is over
	w.Expect(admin.EnsureRole(ctx, told.Database.Schema, "changed by hand")).To(Succeed())
	w.Eventually(func() error {
		pool, err := postgres.Open(ctx, backend.ParseBinding(told.Database.Binding))
		if err != nil {
			return err
		}
		defer pool.Close()
		return pool.Ping(ctx)
	}).Should(Succeed())

	// With Delete, roles and schemas go with the Platform.
	w.Expect(w.client.Delete(ctx, w.platform("main"))).To(Succeed())
	w.gone("main", &v1alpha1.Platform{})
	for _, schema := range []string{told.Database.Schema, told.Identity.Schema} {
		_, err := admin.Tenant(ctx, schema)
		w.Expect(err).To(MatchError(backend.ErrNotFound))
	}
}
