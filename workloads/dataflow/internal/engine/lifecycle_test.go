// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/internal/transform"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

func slow(d time.Duration) func(context.Context, *record.Batch) error {
	return func(ctx context.Context, _ *record.Batch) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func TestDrainWritesWhatWasRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, out := &topic{t: t, count: 1_000_000, chunk: 100, size: 1000}, newStore("store")
		out.before = slow(time.Second)
		p := newPipeline(log.spec(), out.spec())
		p.opts.MaxInFlight = 500_000
		e := p.build(t)
		stop := start(e)
		time.Sleep(2500 * time.Millisecond)
		began := time.Now()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("draining took %v", took)
		}
		if log.committed == 0 || log.committed != out.len() || log.readers != 0 {
			t.Errorf("%d acknowledged, %d written, %d readers", log.committed, out.len(), log.readers)
		}
		// The next worker resumes where this one stopped, without a duplicate.
		before := out.len()
		e = p.build(t)
		stop = start(e)
		time.Sleep(3500 * time.Millisecond)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if out.len() <= before || len(out.order) != out.len() {
			t.Errorf("%d records, %d writes of records", out.len(), len(out.order))
		}
	})
}

func TestDrainTimeoutLeavesTheRestUnacknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, out := &topic{t: t, count: 1000}, newStore("store")
		out.before = slow(24 * time.Hour)
		e := newPipeline(log.spec(), out.spec()).build(t)
		stop := start(e)
		time.Sleep(time.Second)
		synctest.Wait()
		began := time.Now()
		if err := stop(); !errors.Is(err, ErrNotDrained) {
			t.Errorf("error %v", err)
		}
		if took := time.Since(began); took > 25*time.Second {
			t.Errorf("stopping took %v", took)
		}
		if log.committed != 0 {
			t.Errorf("%d acknowledged", log.committed)
		}
	})
}

func TestMemoryIsBoundedUnderAStalledSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, out := &topic{t: t, count: 1 << 30, chunk: 100, size: 1000}, newStore("store")
		out.before = slow(24 * time.Hour)
		p := newPipeline(log.spec(), out.spec())
		p.opts.MaxInFlight = 1_000_000
		e := p.build(t)
		stop := start(e)
		time.Sleep(time.Minute)
		synctest.Wait()
		synctest.Wait()
		const oneRead = 100 * (1000 + recordOverhead)
		if inFlight := e.budget.inFlight(); inFlight < 1_000_000 || inFlight > 1_000_000+oneRead {
			t.Errorf("%d bytes in flight under a limit of 1000000", inFlight)
		}
		if state := e.Status().Sources[0].State; state != config.StateConnected {
			t.Errorf("a waiting source is %s", state)
		}
		_ = stop()
	})
}

func TestStalledSinkDelaysOthersOnlyByTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, fast, stuck := &topic{t: t, count: 1000, chunk: 100, bounded: true}, newStore("fast"), newStore("stuck")
		stuck.before = slow(24 * time.Hour)
		e := newPipeline(log.spec(), fast.spec(), stuck.spec()).build(t)
		stop := start(e)
		time.Sleep(time.Minute)
		synctest.Wait()
		if fast.len() == 0 || log.position() != 0 {
			t.Errorf("fast sink has %d, %d acknowledged", fast.len(), log.position())
		}
		_ = stop()
	})
}

func TestAtMostOnceAcknowledgesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, out := &topic{t: t, count: 1000, chunk: 100}, newStore("store")
		out.before = func(ctx context.Context, batch *record.Batch) error {
			if last := number(&batch.Records[len(batch.Records)-1]); log.position() <= last {
				t.Errorf("record %d was written while only %d were acknowledged", last, log.position())
			}
			return slow(time.Second)(ctx, batch)
		}
		p := newPipeline(log.spec(), out.spec())
		p.cfg.Delivery = config.AtMostOnce
		p.opts.Drain = time.Nanosecond
		for range 20 {
			stop := start(p.build(t))
			time.Sleep(1500 * time.Millisecond)
			_ = stop()
		}
		for n, times := range out.got {
			if times > 1 {
				t.Fatalf("record %d was written %d times", n, times)
			}
		}
		if out.len() == 0 || out.len() == 1000 {
			t.Errorf("%d of 1000 written: the crashes had no effect", out.len())
		}
	})
}

func TestOpenFailuresAreReportedAndRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, out := &topic{t: t, count: 10, bounded: true}, newStore("store")
		down := true
		out.openErr = func() error {
			if down {
				return errors.New("dial as alice:s3cret-word: refused")
			}
			return nil
		}
		p := newPipeline(log.spec(), out.spec())
		p.cfg.Connections = map[string]map[string]string{"out": {"username": "alice", "password": "s3cret-word"}}
		e := p.build(t)
		stop := start(e)
		synctest.Wait()
		status := e.Status()
		c := status.Sinks[0]
		if status.Ready || c.State != config.StateRetrying || !strings.Contains(c.LastError, "refused") {
			t.Errorf("status %+v", status)
		}
		if strings.Contains(c.LastError, "s3cret-word") {
			t.Errorf("the error contains the password: %s", c.LastError)
		}
		time.Sleep(time.Hour) // a failed sink never stays failed
		out.mu.Lock()
		down = false
		out.mu.Unlock()
		began := time.Now()
		<-e.Done()
		if took := time.Since(began); took > 11*time.Second {
			t.Errorf("it took %v to recover", took)
		}
		if c := e.Status().Sinks[0]; c.LastError != "" || c.State != config.StateConnected {
			t.Errorf("after recovery: %+v", c)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestFailingSourceIsReopened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, out := &topic{t: t, count: 100, bounded: true, chunk: 10}, newStore("store")
		reads := 0
		log.readErr = func() error {
			if reads++; reads > 3 && log.opened == 1 {
				return errTransient
			}
			return nil
		}
		e := newPipeline(log.spec(), out.spec()).build(t)
		stop := start(e)
		<-e.Done()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if log.opened != 2 || log.closed != 2 || len(out.order) != 100 {
			t.Errorf("opened %d, closed %d, %d writes of records", log.opened, log.closed, len(out.order))
		}
	})
}

func TestReloadReopensOnlyWhatChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, out := &topic{t: t, count: 1 << 30, chunk: 10}, newStore("store")
		out.before = slow(100 * time.Millisecond)
		p := newPipeline(log.spec(), out.spec())
		p.opts.MaxInFlight = 10_000
		connections := func(in, out string) map[string]map[string]string {
			return map[string]map[string]string{"in": {"password": in}, "out": {"password": out}}
		}
		p.cfg.Connections = connections("one", "one")
		e := p.build(t)
		stop := start(e)
		time.Sleep(time.Second)
		synctest.Wait()
		e.Reload(connections("one", "two"))
		time.Sleep(time.Second)
		synctest.Wait()
		if log.opened != 1 || out.opened != 2 || out.bindings[1] != "two" {
			t.Errorf("source opened %d times, sink %v", log.opened, out.bindings)
		}
		e.Reload(connections("three", "two"))
		time.Sleep(time.Second)
		synctest.Wait()
		if log.opened != 2 || out.opened != 2 || log.bindings[1] != "three" {
			t.Errorf("source opened %v, sink %d times", log.bindings, out.opened)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		for n := range log.committed {
			if out.got[n] != 1 {
				t.Fatalf("record %d was written %d times", n, out.got[n])
			}
		}
		if log.committed != len(out.order) {
			t.Errorf("%d acknowledged, %d written", log.committed, len(out.order))
		}
	})
}

func TestRouting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, even, odd := &topic{t: t, count: 100, bounded: true}, newStore("even"), newStore("odd")
		p := newPipeline(log.spec(), even.spec(), odd.spec())
		p.chain = func(batch *record.Batch) (result transform.Result, err error) {
			for i := range batch.Records {
				switch n := number(&batch.Records[i]); {
				case n == 50: // to all
				case n%2 == 0:
					batch.Records[i].Sinks = []string{"to-even"}
				default:
					batch.Records[i].Sinks = []string{"to-odd"}
				}
			}
			return result, nil
		}
		e := p.build(t)
		stop := start(e)
		<-e.Done()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if even.len() != 50 || odd.len() != 51 || !odd.has(50) {
			t.Errorf("even %d, odd %d", even.len(), odd.len())
		}
	})
}

func TestPanicIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, out := &topic{t: t, count: 10, bounded: true}, newStore("store")
		panics := 2
		out.before = func(context.Context, *record.Batch) error {
			if panics--; panics >= 0 {
				panic("a bug with record content")
			}
			return nil
		}
		e := newPipeline(log.spec(), out.spec()).build(t)
		stop := start(e)
		<-e.Done()
		if err := stop(); err != nil || out.len() != 10 {
			t.Errorf("%v, %d records", err, out.len())
		}
	})
}

func TestConfigurationErrorsNameTheField(t *testing.T) {
	log, out := &topic{t: t}, newStore("store")
	for _, c := range []struct {
		name string
		edit func(*config.Pipeline)
		want string
	}{
		{"no sink", func(p *config.Pipeline) { p.Sinks = nil }, "at least one source and one sink"},
		{"unknown source", func(p *config.Pipeline) { p.Sources[0].Type = "tpoic" }, `sources[0].type: there is no source of type "tpoic"`},
		{"unknown key", func(p *config.Pipeline) { p.Sinks[0].Config = []byte(`{"tabel":1}`) }, "sinks[0].config"},
		{"dead letter is missing", func(p *config.Pipeline) { p.Sinks[0].OnError = config.OnErrorDeadLetter }, "sinks[0].onError"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPipeline(log.spec(), out.spec())
			c.edit(&p.cfg)
			opts := p.opts
			opts.NewChain = func() (Chain, error) { return chainFunc(nil), nil }
			if _, err := New(&p.cfg, opts); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}
