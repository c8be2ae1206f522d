// SPDX-License-Identifier: Apache-2.0

package triggers

import (
	"context"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/itechsmart/operator/workloads/workflow/internal/enginetest"
)

// clock is a clock that the test sets. Waits end after a few milliseconds, as if time passed fast.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) After(time.Time, time.Duration) <-chan time.Time {
	return time.After(5 * time.Millisecond)
}

func (c *clock) set(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func cron(line, missed, more string) string {
	return `{` + more + `"history":{"successful":1000},"triggers":[{"name":"clock","type":"Scheduled","scheduled":{"cron":"` + line + `","missed":"` + missed + `"}}],
		"steps":[{"name":"a","type":"transform","with":{"value":"${{ trigger.scheduledAt }}"}}]}`
}

func TestScheduled(t *testing.T) {
	r := enginetest.New(t)
	c := &clock{now: time.Now().Add(24 * time.Hour).Truncate(time.Hour).Add(30 * time.Second)}
	begin := c.Now()
	one, two := follow(r, &bound{}, c), follow(r, &bound{}, c)
	count := func(workflow string) func() int { return func() int { return len(r.Runs(workflow)) } }
	// By this clock the Workflow is a day old, so that one missed tick starts.
	w := r.Put("clock", cron("*/5 * * * *", "RunOnce", ""))
	one.ready(r, "clock", "clock")
	r.G.Eventually(count("clock"), enginetest.Long).Should(Equal(1))
	next := func(p *replica) func() time.Time {
		return func() time.Time {
			next, _ := p.Schedule("clock", "clock")
			return next
		}
	}
	r.G.Eventually(next(one), enginetest.Long).Should(BeTemporally("==", begin.Add(4*time.Minute+30*time.Second)))
	for i := range 6 {
		if i == 3 {
			one.stop()
			one = follow(r, &bound{}, c)
		}
		c.set(5 * time.Minute)
		r.G.Eventually(count("clock"), enginetest.Long, time.Millisecond).Should(Equal(i + 2))
	}
	// Set the clock back by an hour: the same ticks do not start again.
	c.set(-time.Hour)
	two.stop()
	two = follow(r, &bound{}, c)
	two.ready(r, "clock", "clock")
	c.set(time.Hour)
	c.set(5 * time.Minute)
	r.G.Eventually(count("clock"), enginetest.Long).Should(Equal(8))
	since := func() time.Time {
		var at time.Time
		r.G.Expect(r.Pool.QueryRow(t.Context(), `SELECT since FROM trigger_lines WHERE workflow = 'clock'`).Scan(&at)).To(Succeed())
		return at
	}
	r.G.Expect(since()).To(BeTemporally("==", w.CreationTimestamp.Time), "a restart should not change since")

	// Ticks while the Workflow is suspended, or of another line, do not count as missed.
	r.Put("clock", cron("*/5 * * * *", "RunAll", `"suspend":true,`))
	one.notReady(r, "clock", "clock", "spec.suspend is set")
	r.G.Eventually(func() (on bool, err error) {
		err = r.Pool.QueryRow(t.Context(), `SELECT suspended FROM trigger_lines`).Scan(&on)
		return on, err
	}, enginetest.Long).Should(BeTrue())
	c.set(time.Hour)
	r.Put("clock", cron("*/5 * * * *", "RunAll", ""))
	r.G.Eventually(since, enginetest.Long).Should(BeTemporally("==", c.Now().Truncate(time.Microsecond)))
	c.set(5 * time.Minute)
	r.G.Eventually(count("clock"), enginetest.Long).Should(Equal(9))
	r.Put("clock", cron("0 * * * *", "RunAll", ""))
	r.G.Eventually(since, enginetest.Long).Should(BeTemporally("==", c.Now().Truncate(time.Microsecond)))

	r.G.Expect(r.Client.Delete(context.Background(), w)).To(Succeed())
	r.G.Eventually(func() (n int, err error) {
		err = r.Pool.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM trigger_lines) + (SELECT count(*) FROM ticks) + (SELECT count(*) FROM triggers)`).Scan(&n)
		return n, err
	}, enginetest.Long).Should(BeZero(), "the state of a deleted Workflow should be deleted")
	one.notReady(r, "clock", "clock", "no such Workflow")
	two.stop()
	// The same for a Workflow that is deleted while no replica is running.
	w = r.Put("gone", cron("0 * * * *", "Skip", ""))
	one.ready(r, "gone", "clock")
	one.stop()
	r.G.Expect(r.Client.Delete(context.Background(), w)).To(Succeed())
	r.G.Eventually(func() bool { _, ok := r.Catalog.Get("gone"); return ok }, enginetest.Long).Should(BeFalse())
	follow(r, &bound{}, c)
	r.G.Eventually(func() (n int, err error) {
		err = r.Pool.QueryRow(t.Context(), `SELECT count(*) FROM trigger_lines`).Scan(&n)
		return n, err
	}, enginetest.Long).Should(BeZero())
}

// TestStates: states of triggers without a source.
func TestStates(t *testing.T) {
	r := enginetest.New(t)
	b := &bound{}
	one := follow(r, b, nil)
	steps := `"steps":[{"name":"a","type":"transform","with":{"value":1}}]`
	hook := `{"name":"hook","type":"Webhook","webhook":{"path":"shop","auth":{"hmacSecretRef":{"name":"shop"}}}}`
	r.Put("all", `{"triggers":[{"name":"hand","type":"Manual"},{"name":"rest","type":"API"},`+hook+`],`+steps+`}`)
	one.ready(r, "all", "hand")
	one.ready(r, "all", "rest")
	one.notReady(r, "all", "hook", "the key of Secret shop is not available yet")
	b.mu.Lock()
	b.hmac = map[string][]byte{"all/hook": []byte("0123456789abcdef")}
	b.mu.Unlock()
	one.ready(r, "all", "hook")
	one.notReady(r, "all", "nobody", "no such trigger")
	r.Put("wrong", `{"triggers":[{"name":"hand","type":"Manual"}],"steps":[{"name":"a","type":"transform","with":{"value":"${{ nobody }}"}}]}`)
	one.notReady(r, "wrong", "hand", "is invalid")
}
