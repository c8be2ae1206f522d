// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	platformv1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/external"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/controllers/internal/tenants"
	"github.com/itechsmart/operator/controllers/internal/workload"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/rabbitmq"
	"github.com/itechsmart/operator/workloads/config"
)

// kindQueue is the kind of a queue of tasks with its dead letters, in claims.
const kindQueue = "RabbitMQQueue"

// openBrokers opens a RabbitMQ to make queues in.
type openBrokers func(backend.Binding) (rabbitmq.Admin, error)

// queue makes the product's queue of tasks, and keeps it as declared; nil: it needs none.
func (p *pass) queue(ctx context.Context, platform *platformv1alpha1.Platform, server backend.Binding, now *observed) (*config.Queue, error) {
	if !p.kind.Queue {
		return nil, nil
	}
	name := queueName(platform.Namespace, platform.Name, p.kind.Product)
	sum := workload.Checksum([]any{p.service.GetUID(), server.Data(), name})
	err := p.compared(ctx, kindQueue, sum, platform, platformv1alpha1.BackendRabbitMQ, now, func(ctx context.Context) error {
		return p.ensureQueue(ctx, platform, server, name)
	})
	return &config.Queue{Binding: brokerLogin(server), Name: name}, err
}

// brokerLogin returns the keys of the binding that service and workers need for RabbitMQ.
func brokerLogin(server backend.Binding) map[string]string {
	b := server
	b.Extra = nil
	if host := server.Extra[rabbitmq.KeyVirtualHost]; host != "" {
		b.Extra = map[string]string{rabbitmq.KeyVirtualHost: host}
	}
	b.URI = rabbitmq.URI(b)
	return b.Data()
}

// ensureQueue creates what is missing. It claims the queue first, so that a crash leaves no unknown object.
func (p *pass) ensureQueue(ctx context.Context, platform *platformv1alpha1.Platform, server backend.Binding, name string) error {
	ctx, cancel := context.WithTimeout(ctx, tenants.Timeout)
	defer cancel()
	admin, err := p.open.brokers(server)
	if err != nil {
		return external.Explain(kindQueue, name, err)
	}
	defer func() { _ = admin.Close() }() // what was declared is there
	owner := external.Owner{Client: p.client, Object: p.service}
	connection := connectionName(platform.Namespace, platform.Name, platformv1alpha1.BackendRabbitMQ)
	plan, err := external.Diff(ctx, owner, queueDriver(admin), connection, []rabbitmq.WorkQueue{{Name: name}})
	if err != nil {
		return err
	}
	if _, err := external.Apply(ctx, owner, plan); err != nil {
		return err
	}
	// Whoever made it: what is missing of it is made, and what differs is an error.
	err = rabbitmq.WorkQueue{Name: name}.Ensure(ctx, admin)
	if errors.Is(err, backend.ErrExists) {
		return &reconcile.Terminal{Reason: common.ReasonNotOwned, After: time.Minute, Message: fmt.Sprintf(
			"%v; RabbitMQ cannot change that: let the queue run empty and delete it, and it is made anew", err)}
	}
	return external.Explain(kindQueue, name, err)
}

func dropQueues(ctx context.Context, open openBrokers, server backend.Binding, claims []external.Claim) error {
	ctx, cancel := context.WithTimeout(ctx, tenants.Timeout)
	defer cancel()
	admin, err := open(server)
	if err != nil {
		return external.Explain(kindQueue, claims[0].Name, err)
	}
	defer func() { _ = admin.Close() }() // what was dropped is gone
	return external.DropAll(ctx, claims, queueDriver(admin).Drop)
}

// queueDriver claims queues; AMQP does not say whether one is as declared, and a declaration does.
func queueDriver(admin rabbitmq.Admin) external.Driver[rabbitmq.WorkQueue] {
	return external.Driver[rabbitmq.WorkQueue]{
		Kind: kindQueue,
		Name: func(q rabbitmq.WorkQueue) string { return q.Name },
		Get: func(ctx context.Context, want rabbitmq.WorkQueue) (rabbitmq.WorkQueue, error) {
			_, err := admin.Queue(ctx, want.Name)
			return want, err
		},
		Create:    func(context.Context, rabbitmq.WorkQueue) error { return nil },
		Update:    func(context.Context, rabbitmq.WorkQueue, rabbitmq.WorkQueue) error { return nil },
		Usable:    func(rabbitmq.WorkQueue, rabbitmq.WorkQueue) error { return nil },
		MayCreate: func(rabbitmq.WorkQueue) error { return nil },
		Drop: func(ctx context.Context, name string) error {
			return rabbitmq.WorkQueue{Name: name}.Delete(ctx, admin)
		},
	}
}
