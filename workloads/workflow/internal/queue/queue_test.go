// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/internal/backend/rabbitmq"
)

func TestMain(m *testing.M) { servers.Main(m) }

// long is the timeout of tests.
const long = time.Minute

// open runs the test's own queue until the test ends.
func open(t *testing.T, o Options) *Queue {
	t.Helper()
	if o.Name == "" {
		o.Name = backendtest.Name("tasks")
	}
	q, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	background(t, q.Run)
	NewWithT(t).Eventually(func() error { return q.Ready(t.Context()) }, long).Should(Succeed())
	return q
}

// background runs f until the test ends or stop is called.
func background(t *testing.T, f func(context.Context)) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { f(ctx) })
	stop = func() {
		cancel()
		group.Wait()
	}
	t.Cleanup(stop)
	return stop
}

// inbox collects deliveries.
type inbox struct {
	mu    sync.Mutex
	seen  map[string]int
	holds int // unfinished deliveries
	most  int
}

func (i *inbox) add(d *Delivery, held int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.seen == nil {
		i.seen = map[string]int{}
	}
	i.seen[string(d.Body)]++
	i.holds += held
	i.most = max(i.most, i.holds)
}

func (i *inbox) count() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.seen)
}

func bodies(prefix string, n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = fmt.Appendf(nil, "%s%d", prefix, i)
	}
	return out
}

func TestPublishConsume(t *testing.T) {
	g := NewWithT(t)
	q := open(t, Options{Binding: servers.RabbitMQ(t), Prefetch: 3})
	g.Expect(q.Publish(t.Context(), bodies("a", maxBatch+10))).To(Succeed())
	var got inbox
	background(t, func(ctx context.Context) {
		q.Consume(ctx, func(d *Delivery) {
			got.add(d, 1)
			d.Ack()
			d.Ack() // a second call has no effect
			got.add(d, -1)
		})
	})
	g.Eventually(got.count, long).Should(Equal(maxBatch + 10))
	if got.most > 3+1 { // an acknowledged one may not have returned yet
		t.Errorf("%d unfinished deliveries at a time, want at most 4", got.most)
	}
}

func TestPrefetchBoundsUnfinished(t *testing.T) {
	g := NewWithT(t)
	q := open(t, Options{Binding: servers.RabbitMQ(t), Prefetch: 2})
	g.Expect(q.Publish(t.Context(), bodies("a", 5))).To(Succeed())
	var got, other inbox
	goOn := make(chan struct{})
	background(t, func(ctx context.Context) {
		q.Consume(ctx, func(d *Delivery) {
			got.add(d, 1)
			<-goOn
			d.Ack()
		})
	})
	g.Eventually(got.count, long).Should(Equal(2))
	// Another consumer gets the rest.
	background(t, func(ctx context.Context) { q.Consume(ctx, func(d *Delivery) { other.add(d, 0); d.Ack() }) })
	g.Eventually(other.count, long).Should(Equal(3))
	close(goOn)
}

func TestUnacknowledgedIsRedelivered(t *testing.T) {
	g := NewWithT(t)
	q := open(t, Options{Binding: servers.RabbitMQ(t)})
	g.Expect(q.Publish(t.Context(), bodies("a", 2))).To(Succeed())
	var first, second inbox
	stop := background(t, func(ctx context.Context) { q.Consume(ctx, func(d *Delivery) { first.add(d, 0) }) })
	g.Eventually(first.count, long).Should(Equal(2))
	stop()
	background(t, func(ctx context.Context) { q.Consume(ctx, func(d *Delivery) { second.add(d, 0); d.Ack() }) })
	g.Eventually(second.count, long).Should(Equal(2))
}

func TestDeadLetters(t *testing.T) {
	g := NewWithT(t)
	b := servers.RabbitMQ(t)
	q := open(t, Options{Binding: b})
	admin, err := rabbitmq.New(b)
	g.Expect(err).NotTo(HaveOccurred())
	defer admin.Close() //nolint:errcheck // the test is over
	g.Expect(q.Publish(t.Context(), [][]byte{[]byte("poison"), []byte("good")})).To(Succeed())
	var got inbox
	background(t, func(ctx context.Context) {
		q.Consume(ctx, func(d *Delivery) {
			if string(d.Body) == "poison" {
				d.Reject()
				return
			}
			got.add(d, 0)
			d.Ack()
		})
	})
	g.Eventually(got.count, long).Should(Equal(1))
	g.Eventually(func() int {
		dead, err := admin.Queue(t.Context(), q.Dead())
		g.Expect(err).NotTo(HaveOccurred())
		return dead.Messages
	}, long).Should(Equal(1))
}

func TestDeletedQueueIsRecreated(t *testing.T) {
	g := NewWithT(t)
	b := servers.RabbitMQ(t)
	q := open(t, Options{Binding: b})
	admin, err := rabbitmq.New(b)
	g.Expect(err).NotTo(HaveOccurred())
	defer admin.Close() //nolint:errcheck // the test is over
	g.Expect(admin.DeleteQueue(t.Context(), q.options.Name)).To(Succeed())
	if err := q.Publish(t.Context(), bodies("lost", 1)); !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("publish to a deleted queue: %v, want ErrUnavailable", err)
	}
	g.Eventually(func() error { return q.Publish(t.Context(), bodies("a", 1)) }, long).Should(Succeed())
}

// TestBrokerDown stops the broker gracefully: RabbitMQ 3.10 loses a quorum queue if it is killed seconds after its creation.
func TestBrokerDown(t *testing.T) {
	if testing.Short() {
		t.Skip("restarts a server")
	}
	g := NewWithT(t)
	server := servers.StartRabbitMQ(t)
	q := open(t, Options{Binding: server.Binding, PublishTimeout: 2 * time.Second})
	var got inbox
	background(t, func(ctx context.Context) { q.Consume(ctx, func(d *Delivery) { got.add(d, 0); d.Ack() }) })
	g.Expect(q.Publish(t.Context(), bodies("before", 10))).To(Succeed())
	g.Eventually(got.count, long).Should(Equal(10))
	server.Stop()
	g.Eventually(func() error { return q.Ready(t.Context()) }, long).Should(MatchError(backend.ErrUnavailable))
	if err := q.Publish(t.Context(), bodies("away", 1)); !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("publish without a broker: %v, want ErrUnavailable", err)
	}
	server.Restart(t)
	g.Eventually(func() error { return q.Publish(t.Context(), bodies("after", 10)) }, long).Should(Succeed())
	g.Eventually(got.count, long).Should(BeNumerically(">=", 20))
}

// TestMemoryAlarm: a broker with almost no memory blocks publishers, and works again after a restart with more.
func TestMemoryAlarm(t *testing.T) {
	if testing.Short() {
		t.Skip("restarts a server")
	}
	g := NewWithT(t)
	const setting = "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"
	t.Setenv(setting, "-rabbit vm_memory_high_watermark {absolute,1000}")
	server := servers.StartRabbitMQ(t)
	q := open(t, Options{Binding: server.Binding, PublishTimeout: 2 * time.Second})
	for range 2 { // the broker reports the alarm at the first publish
		if err := q.Publish(t.Context(), bodies("a", 1)); !errors.Is(err, backend.ErrUnavailable) {
			t.Fatalf("under alarm: %v, want ErrUnavailable", err)
		}
	}
	g.Expect(q.Ready(t.Context())).To(MatchError(errBlocked))
	t.Setenv(setting, "")
	server.Restart(t)
	g.Eventually(func() error { return q.Publish(t.Context(), bodies("b", 1)) }, long).Should(Succeed())
}

func TestNew(t *testing.T) {
	for name, o := range map[string]Options{
		"name": {Binding: backend.Binding{Host: "h", Port: "1", Username: "u", Password: "p"}, Name: "amq.x"},
		"port": {Binding: backend.Binding{Host: "h", Username: "u", Password: "p"}, Name: "x"},
	} {
		if _, err := New(o); !errors.Is(err, backend.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
}
