// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/ctrltest"
	"github.com/itechsmart/operator/controllers/internal/ctrltest/platformtest"
	"github.com/itechsmart/operator/controllers/internal/service"
	"github.com/itechsmart/operator/controllers/internal/setup"
	"github.com/itechsmart/operator/controllers/internal/workload"
	"github.com/itechsmart/operator/test/kube"
)

// TestManagerDiesAtEveryWriteOfAService: after a crash at any write, the next manager continues with the same credentials.
func TestManagerDiesAtEveryWriteOfAService(t *testing.T) {
	eachService(t, func(t *testing.T, kind *service.Type) {
		for name, scenario := range map[string]func(*cell, *kube.Crash) (arm func(), done func() error){
			"created": (*cell).created, "deleted": (*cell).deleted,
		} {
			t.Run(name, func(t *testing.T) {
				kube.EveryWrite(t, 4, func(t *testing.T, at string, when kube.When) (map[string]string, []string, bool) {
					return newCell(t, kind).play(at, when, scenario)
				})
			})
		}
	})
}

// cell is one namespace, in which one manager dies and another takes over.
type cell struct {
	*platformtest.World
	t    *testing.T
	kind *service.Type
	o    service.Object
}

func newCell(t *testing.T, kind *service.Type) *cell {
	t.Helper()
	c := &cell{World: platformtest.NewWorld(t), t: t, kind: kind}
	platformtest.New(t, c.Client, c.Namespace, nil, backends...)
	_, cfg := ctrltest.Env(t)
	if err := kube.Kubelet(t.Context(), cfg, c.Namespace); err != nil {
		t.Fatal(err)
	}
	return c
}

// created creates the service.
func (c *cell) created(*kube.Crash) (arm func(), done func() error) {
	return func() { c.o = c.Service(c.kind, "mine") }, c.ready
}

// deleted deletes one that runs, with its data.
func (c *cell) deleted(crash *kube.Crash) (arm func(), done func() error) {
	c.o = c.Service(c.kind, "mine", func(o service.Object) { o.ServiceSpec().DeletionPolicy = common.DeletionDelete })
	crash.Await(c.t, func() error {
		if !crash.Quiet(500 * time.Millisecond) {
			return errors.New("the manager goes on writing")
		}
		return c.ready()
	})
	return func() { c.Delete(c.o) }, c.gone
}

func (c *cell) ready() error {
	o := c.kind.New()
	if err := c.Get("mine", o); err != nil {
		return err
	}
	found := meta.FindStatusCondition(*o.GetConditions(), common.ConditionReady)
	if found == nil || found.Status != "True" || found.ObservedGeneration != o.GetGeneration() {
		return fmt.Errorf("not Ready: %+v", found)
	}
	return nil
}

func (c *cell) gone() error {
	if err := c.Get("mine", c.kind.New()); !apierrors.IsNotFound(err) {
		return fmt.Errorf("the service still exists: %w", err)
	}
	return nil
}

func (c *cell) manager(crash *kube.Crash) (stop func()) {
	_, cfg := ctrltest.Env(c.t)
	return kube.Manager{
		Config: cfg, Scheme: ctrltest.Scheme(), Cache: setup.CacheOptions([]string{c.Namespace}), Crash: crash,
		Setup: func(mgr manager.Manager) error {
			deps, err := setup.New(mgr, c.Options())
			if err != nil {
				return err
			}
			return c.Setup(deps, c.kind)
		},
	}.Run(c.t)
}

func (c *cell) play(
	at string, when kube.When, scenario func(*cell, *kube.Crash) (arm func(), done func() error),
) (state map[string]string, writes []string, died bool) {
	c.t.Helper()
	crash := kube.NewCrash()
	stop := c.manager(crash)
	begin, done := scenario(c, crash)
	crash.Arm(at, when)
	begin()
	crash.Await(c.t, done)
	stop()
	select {
	case <-crash.Dead():
		died = true
		stop = c.manager(nil)
		kube.NewCrash().Await(c.t, done)
		stop()
	default:
	}
	return c.state(), crash.Writes(), died
}

// state returns what exists, without random parts, and checks that it is consistent.
func (c *cell) state() map[string]string {
	c.t.Helper()
	var hashes []string
	for _, component := range c.kind.Components() {
		var d appsv1.Deployment
		err := c.Get("main-"+component, &d)
		if client.IgnoreNotFound(err) != nil {
			c.t.Fatal(err)
		}
		if err == nil {
			hashes = append(hashes, d.Spec.Template.Annotations[workload.AnnotationChecksum], "HASH of "+component)
			if keys := d.Annotations[service.AnnotationSigningKeys]; keys != "" {
				hashes = append(hashes, keys, "KEYS")
			}
		}
	}
	state, err := kube.State(context.Background(), c.Client, c.Namespace, append(hashes, schemaOf(c.World, c.kind), "SCHEMA")...)
	if err != nil {
		c.t.Fatal(err)
	}
	for name := range state {
		if strings.HasPrefix(name, "Secret ") {
			state[name] = "made"
		}
	}
	_, err = c.Postgres.Tenant(context.Background(), schemaOf(c.World, c.kind))
	state["schema"] = fmt.Sprint(err == nil)
	_, err = c.RabbitMQ.Queue(context.Background(), queueOf(c.World, c.kind))
	state["queue"] = fmt.Sprint(err == nil)
	_, err = reviewerOf(c.World, c.kind)
	state["reviewer"] = fmt.Sprint(err == nil)
	if c.ready() == nil {
		c.fits()
	}
	return state
}

// fits compares the service's configuration with the Secrets and with the database.
func (c *cell) fits() {
	c.t.Helper()
	cfg, own := c.Config(c.kind.Product), c.Data("main-"+c.kind.Product+"-database")
	tenant, err := c.Postgres.Tenant(context.Background(), schemaOf(c.World, c.kind))
	if err != nil {
		c.t.Fatal(err)
	}
	for what, pair := range map[string][2]string{
		"password":               {cfg.Database.Binding["password"], string(own["password"])},
		"password in PostgreSQL": {cfg.Database.Binding["password"], c.Postgres.Password(schemaOf(c.World, c.kind))},
		"mark":                   {tenant.Mark, string(own["mark"])},
		"identity's password":    {cfg.Identity.Binding["password"], platformtest.IdentityPassword},
	} {
		if pair[0] == "" || pair[0] != pair[1] {
			c.t.Errorf("the service's %s is not what was made", what)
		}
	}
}
