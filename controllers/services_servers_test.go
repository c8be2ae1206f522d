// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"testing"
	"time"

	. "github.com/onsi/gomega" //nolint:revive,staticcheck // its matchers read as words

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/ctrltest/platformtest"
	"github.com/itechsmart/operator/controllers/internal/service"
	"github.com/itechsmart/operator/controllers/internal/setup"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/internal/backend/postgres"
	"github.com/itechsmart/operator/internal/backend/rabbitmq"
)

// startOn runs a manager of one service kind with servers of its own, which it compares every second.
func startOn(w *platformtest.World, kind *service.Type, databases func(backend.Binding) (postgres.Tenants, error), brokers func(backend.Binding) (rabbitmq.Admin, error)) {
	options := w.Options()
	options.DriftInterval = time.Second
	w.StartWith(options, func(d *setup.Deps) error { return service.SetupWith(d, kind, databases, brokers) })
}

// TestServiceOnPostgreSQL runs with a real server, from the service to the login of its Pods, and to the end.
func TestServiceOnPostgreSQL(t *testing.T) {
	server := servers.StartPostgres(t)
	kind := kinds()[0]
	w := platformtest.NewWorld(t)
	p := platformtest.New(t, w.Client, w.Namespace, managed, backends...)
	p.Bind(platformv1alpha1.BackendPostgreSQL, server.Binding.Data())
	w.Serve()
	startOn(w, kind, postgres.NewTenants, func(backend.Binding) (rabbitmq.Admin, error) { return w.RabbitMQ, nil })
	o := w.Service(kind, "mine", func(o service.Object) { o.ServiceSpec().DeletionPolicy = common.DeletionDelete })
	w.Succeeds(o)
	cfg := w.Config(kind.Product).Database

	// The service logs in, and works in its schema alone.
	ping := func() error {
		pool, err := postgres.Open(t.Context(), backend.ParseBinding(cfg.Binding))
		if err != nil {
			return err
		}
		defer pool.Close()
		return pool.Ping(t.Context())
	}
	pool, err := postgres.Open(t.Context(), backend.ParseBinding(cfg.Binding))
	w.Expect(err).NotTo(HaveOccurred())
	_, err = pool.Exec(t.Context(), "CREATE TABLE notes (text text)")
	w.Expect(err).NotTo(HaveOccurred())
	var schema string
	w.Expect(pool.QueryRow(t.Context(), "SELECT schemaname FROM pg_tables WHERE tablename = 'notes' AND tableowner = current_user").Scan(&schema)).To(Succeed())
	w.Expect(schema).To(Equal(cfg.Schema))
	_, err = pool.Exec(t.Context(), "CREATE TABLE public.notes (a int)")
	w.Expect(postgres.Error(server.Binding, "write", err)).To(MatchError(backend.ErrAuth))
	pool.Close()

	// Drift in the server is reverted: the password and the limit of connections.
	admin, err := postgres.NewTenants(server.Binding)
	w.Expect(err).NotTo(HaveOccurred())
	defer admin.Close() //nolint:errcheck // the test is over
	tenant, err := admin.Tenant(t.Context(), cfg.Schema)
	w.Expect(err).NotTo(HaveOccurred())
	w.Expect(tenant.Connections).To(BeNumerically(">", 0))
	changed := tenant
	changed.Connections = 1
	w.Expect(admin.EnsureTenant(t.Context(), changed, "changed by hand", "")).To(Succeed())
	w.Eventually(ping).Should(Succeed())
	w.Eventually(func() (postgres.Tenant, error) { return admin.Tenant(t.Context(), cfg.Schema) }).Should(Equal(tenant))

	// With Delete, role and schema go with the service.
	w.Delete(o)
	w.Gone("mine", o)
	_, err = admin.Tenant(t.Context(), cfg.Schema)
	w.Expect(err).To(MatchError(backend.ErrNotFound))
}

// TestQueueOnRabbitMQ runs with a real broker: drift is reverted, and Delete takes all along.
func TestQueueOnRabbitMQ(t *testing.T) {
	broker := servers.StartRabbitMQ(t)
	eachService(t, func(t *testing.T, kind *service.Type) {
		if !kind.Queue {
			t.Skip("it has no queue")
		}
		w := platformtest.NewWorld(t)
		p := platformtest.New(t, w.Client, w.Namespace, nil, backends...)
		binding := broker.Binding.Data()
		binding[rabbitmq.KeyVirtualHost] = "" // the default one
		p.Bind(platformv1alpha1.BackendRabbitMQ, binding)
		w.Serve()
		startOn(w, kind, func(backend.Binding) (postgres.Tenants, error) { return w.Postgres, nil }, rabbitmq.New)
		o := w.Service(kind, "mine", func(o service.Object) { o.ServiceSpec().DeletionPolicy = common.DeletionDelete })
		w.Succeeds(o)
		admin, err := rabbitmq.New(broker.Binding)
		w.Expect(err).NotTo(HaveOccurred())
		defer admin.Close() //nolint:errcheck // the test is over
		queue := rabbitmq.WorkQueue{Name: queueOf(w, kind)}
		w.Expect(queue.Ensure(t.Context(), admin)).To(Succeed(), "another declaration of the same finds it alike")

		w.Expect(admin.DeleteQueue(t.Context(), queue.Name)).To(Succeed())
		w.Expect(admin.DeleteExchange(t.Context(), queue.Dead())).To(Succeed())
		w.Eventually(func() error { _, err := admin.Queue(t.Context(), queue.Name); return err }).Should(Succeed())
		w.Eventually(func() error { return admin.Exchange(t.Context(), queue.Dead()) }).Should(Succeed())

		// What cannot be changed is reported, and nothing is deleted.
		w.Eventually(func() error { // until this is faster than the controller
			_ = admin.DeleteQueue(t.Context(), queue.Name)
			return admin.EnsureQueue(t.Context(), rabbitmq.Queue{Name: queue.Name, Durable: true, Type: "quorum"})
		}).Should(Succeed())
		w.Says(o, common.ReasonNotOwned, queue.Name)
		w.Says(o, common.ReasonNotOwned, "RabbitMQ cannot change that")
		_, err = admin.Queue(t.Context(), queue.Name)
		w.Expect(err).NotTo(HaveOccurred())
		w.Delete(o)
		w.Gone("mine", o)
		for _, name := range []string{queue.Name, queue.Dead()} {
			_, err = admin.Queue(t.Context(), name)
			w.Expect(err).To(MatchError(backend.ErrNotFound))
		}
		w.Expect(admin.Exchange(t.Context(), queue.Dead())).To(MatchError(backend.ErrNotFound))
	})
}
