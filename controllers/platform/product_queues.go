// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	common "github.com/itechsmart/operator/api/common/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/external"
	"github.com/itechsmart/operator/controllers/internal/reconcile"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/rabbitmq"
)

// kindQueue is what claims call a queue of tasks with its dead letters.
const kindQueue = "RabbitMQQueue"

// openBrokers opens a RabbitMQ to make queues in.
type openBrokers func(backend.Binding) (rabbitmq.Admin, error)

// queues makes queues of tasks.
type queues struct {
	open openBrokers
	*checks
}

// queue makes the product's queue, and keeps it as declared.
func (r *productRun) queue(ctx context.Context) error {
	if r.kind.queue == nil {
		return nil
	}
	name, key := r.kind.queue(r.platform), client.ObjectKeyFromObject(r.platform)
	of := checksum([]any{r.platform.UID, r.rabbitmq.Data(), name})
	due, left := r.queues.due(key, r.kind.name, of)
	if !due {
		r.again = sooner(r.again, left)
		return nil
	}
	if !r.up(rabbitmqBackend) {
		return r.away(rabbitmqBackend)
	}
	if err := r.ensureQueue(ctx, name); err != nil {
		return err
	}
	r.queues.note(key, r.kind.name, of)
	r.again = sooner(r.again, r.queues.interval)
	return nil
}

// taskBroker is how service and workers log in to RabbitMQ: what else the Secret holds is left out.
func (r *productRun) taskBroker() map[string]string {
	b := r.rabbitmq
	b.Extra = nil
	if host := r.rabbitmq.Extra[keyVirtualHost]; host != "" {
		b.Extra = map[string]string{keyVirtualHost: host}
	}
	b.URI = rabbitmqBackend.uri(b)
	return b.Data()
}

// away is for a server that is to be looked at and does not answer: its own row says what is wrong, and a service that runs
// goes on.
func (r *productRun) away(kind *backendType) error {
	if r.live != nil {
		return nil
	}
	return r.awaited(kind)
}

// ensureQueue makes what is missing. It is claimed first, so that a crash leaves nothing that nobody knows of.
func (r *productRun) ensureQueue(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, serverTimeout)
	defer cancel()
	admin, err := r.queues.open(r.rabbitmq)
	if err != nil {
		return external.Explain(kindQueue, name, err)
	}
	defer func() { _ = admin.Close() }() // what was declared is there
	owner := external.Owner{Client: r.client, Object: r.platform}
	plan, err := external.Look(ctx, owner, queueDriver(admin), r.connection(rabbitmqBackend), []rabbitmq.WorkQueue{{Name: name}})
	if err != nil {
		return err
	}
	if _, err := external.Make(ctx, owner, plan); err != nil {
		return err
	}
	// Whoever made it: what is missing of it is made, and what differs is told.
	err = rabbitmq.WorkQueue{Name: name}.Ensure(ctx, admin)
	if errors.Is(err, backend.ErrExists) {
		return &reconcile.Terminal{Reason: common.ReasonNotOwned, After: time.Minute, Message: fmt.Sprintf(
			"%s: %v; RabbitMQ cannot change that: let the queue run empty and delete it, and it is made anew", productPath(r.kind.name), err)}
	}
	return external.Explain(kindQueue, name, err)
}

// queueDriver claims queues; AMQP does not tell whether one is as declared, and a declaration does.
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
