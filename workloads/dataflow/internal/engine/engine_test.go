// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/internal/transform"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

// Time in these tests is synctest's: it jumps ahead when every goroutine waits.

func TestAllRecordsArriveOnceInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, out := &topic{t: t, count: 1000, bounded: true}, newStore("store")
		p := newPipeline(log.spec(), out.spec())
		e := p.build(t)
		stop := start(e)
		<-e.Done()
		status := e.Status()
		if !status.Finished || !status.Ready || status.Sources[0].State != config.StateFinished {
			t.Errorf("status after the last record: %+v", status)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		for i, n := range out.order {
			if n != i {
				t.Fatalf("record %d arrived at index %d", n, i)
			}
		}
		if len(out.order) != 1000 || log.committed != 1000 || log.readers != 0 {
			t.Errorf("%d written, %d acknowledged, %d readers open", len(out.order), log.committed, log.readers)
		}
		if out.largest > 100 {
			t.Errorf("a batch had %d records, more than batching.count", out.largest)
		}
		if status.Records.In != 1000 || status.Records.Out != 1000 {
			t.Errorf("counted %+v", status.Records)
		}
	})
}

// TestNoRecordIsLostUnderFailuresAndCrashes runs one pipeline after another over the same log. Sinks fail before
// and after writing, sources fail to open and to read, and each engine is abandoned at a random moment without
// draining.
func TestNoRecordIsLostUnderFailuresAndCrashes(t *testing.T) {
	for seed := range 20 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { crashes(t, 3000) })
		})
	}
}

func crashes(t *testing.T, count int) {
	sometimes := func(per int) func() error {
		return func() error {
			if rand.N(per) == 0 {
				return errTransient
			}
			return nil
		}
	}
	log := &topic{t: t, count: count, openErr: sometimes(4), readErr: sometimes(10)}
	a, b := newStore("a"), newStore("b")
	for _, s := range []*store{a, b} {
		fail := sometimes(4)
		s.openErr, s.after = sometimes(3), sometimes(5)
		s.before = func(ctx context.Context, _ *record.Batch) error {
			select {
			case <-time.After(rand.N(20 * time.Millisecond)):
				return fail()
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	log.onAck = func(position int) {
		for n := range position {
			if !a.has(n) || !b.has(n) {
				t.Errorf("record %d was acknowledged but not written everywhere", n)
				return
			}
		}
	}
	p := newPipeline(log.spec(), a.spec(), b.spec())
	p.opts.Drain = time.Nanosecond
	for runs := 0; log.position() < count; runs++ {
		if runs > 1000 {
			t.Fatal("no progress")
		}
		stop := start(p.build(t))
		time.Sleep(rand.N(3 * time.Second))
		if err := stop(); err != nil && !errors.Is(err, ErrNotDrained) {
			t.Fatal(err)
		}
	}
	for n := range count {
		if !a.has(n) || !b.has(n) {
			t.Fatalf("record %d was lost", n)
		}
	}
}

func TestRefusedRecordsAreFoundByBisecting(t *testing.T) {
	poison := func(n int) bool { return n == 7 || n == 8 || n == 450 }
	for _, policy := range []config.OnError{config.OnErrorDrop, config.OnErrorDeadLetter} {
		t.Run(string(policy), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log, out, dead := &topic{t: t, count: 500, bounded: true, chunk: 100}, newStore("store"), newStore("letters")
				out.poison = poison
				log.onAck = func(position int) {
					for n := range position {
						if !out.has(n) && policy == config.OnErrorDeadLetter && !dead.has(n) {
							t.Errorf("record %d was acknowledged before its dead letter was written", n)
						}
					}
				}
				p := newPipeline(log.spec(), out.spec())
				p.cfg.Sinks[0].OnError = policy
				p.withDeadLetter(dead)
				e := p.build(t)
				stop := start(e)
				<-e.Done()
				status := e.Status()
				if err := stop(); err != nil {
					t.Fatal(err)
				}
				for n := range 500 {
					if poison(n) == out.has(n) || out.got[n] > 1 {
						t.Errorf("record %d was written %d times", n, out.got[n])
					}
				}
				want := 0
				if policy == config.OnErrorDeadLetter {
					want = 3
				}
				if dead.len() != want || status.Records.DeadLettered != int64(want) || status.Records.Errored != 3 {
					t.Errorf("%d dead letters, counted %+v", dead.len(), status.Records)
				}
				if want > 0 {
					h := dead.headers[450]
					if h[HeaderComponent] != "to-store" || h[HeaderPipeline] != "shop/orders" || h[HeaderOrigin] != "topic/0@450" ||
						!strings.Contains(h[HeaderError], "refuses") || h[HeaderTime] == "" {
						t.Errorf("dead letter's headers: %v", h)
					}
				}
			})
		})
	}
}

func TestRecordErrorsAreNotBisected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, out, dead := &topic{t: t, count: 100, bounded: true, chunk: 100}, newStore("store"), newStore("letters")
		out.before = func(_ context.Context, batch *record.Batch) error {
			errs := &record.Errors{}
			for i := range batch.Records {
				if number(&batch.Records[i])%10 == 0 {
					errs.Add(i, errors.New("too large"))
				}
			}
			return fmt.Errorf("write: %w", errs.OrNil())
		}
		p := newPipeline(log.spec(), out.spec())
		p.cfg.Sinks[0].OnError = config.OnErrorDeadLetter
		p.withDeadLetter(dead)
		e := p.build(t)
		stop := start(e)
		<-e.Done()
		status := e.Status()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if dead.len() != 10 || status.Records.Out != 90 || status.Records.DeadLettered != 10 {
			t.Errorf("%d dead letters, counted %+v", dead.len(), status.Records)
		}
	})
}

func TestFailBlocksThePipelineUntilTheSinkAcceptsTheRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, out := &topic{t: t, count: 300, bounded: true, chunk: 100}, newStore("store")
		refuses := true
		out.poison = func(n int) bool { return n == 150 && refuses }
		p := newPipeline(log.spec(), out.spec())
		e := p.build(t)
		stop := start(e)
		time.Sleep(time.Minute)
		synctest.Wait()
		status := e.Status()
		if c := status.Sinks[0]; c.State != config.StateRetrying || !strings.Contains(c.LastError, "topic/0@150") {
			t.Errorf("the blocked sink's status: %+v", c)
		}
		if log.position() != 100 || out.has(250) || status.Ready {
			t.Errorf("the pipeline continued: position %d", log.position())
		}
		out.mu.Lock()
		refuses = false
		out.mu.Unlock()
		<-e.Done()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if out.len() != 300 || out.got[151] != 1 {
			t.Errorf("%d records, record 151 %d times", out.len(), out.got[151])
		}
	})
}

func TestMaxAttemptsAppliesThePolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, out, dead := &topic{t: t, count: 20, bounded: true, chunk: 10}, newStore("store"), newStore("letters")
		out.before = func(_ context.Context, batch *record.Batch) error {
			if number(&batch.Records[0]) == 0 {
				return errTransient
			}
			return nil
		}
		p := newPipeline(log.spec(), out.spec())
		p.cfg.Batching.Count = 10
		p.cfg.Sinks[0].OnError = config.OnErrorDeadLetter
		p.cfg.Sinks[0].Retry.MaxAttempts = 4
		p.withDeadLetter(dead)
		e := p.build(t)
		stop := start(e)
		<-e.Done()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if dead.len() != 10 || out.len() != 10 {
			t.Errorf("%d dead letters, %d written", dead.len(), out.len())
		}
	})
}

func TestTransformFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, out, dead := &topic{t: t, count: 100, bounded: true, chunk: 50}, newStore("store"), newStore("letters")
		p := newPipeline(log.spec(), out.spec())
		p.withDeadLetter(dead)
		p.chain = func(batch *record.Batch) (result transform.Result, err error) {
			kept := batch.Records[:0]
			for _, r := range batch.Records {
				switch n := number(&r); {
				case n%10 == 3:
					result.Failed = append(result.Failed, transform.Failure{Record: r, Transform: "cast", Policy: config.OnErrorDeadLetter, Err: errors.New("not a number")})
				case n%10 == 4:
					result.Failed = append(result.Failed, transform.Failure{Record: r, Transform: "cast", Policy: config.OnErrorDrop, Err: errors.New("not a number")})
				case n%10 == 5:
					result.Filtered++
				default:
					kept = append(kept, r)
				}
			}
			batch.Records = kept
			return result, nil
		}
		e := p.build(t)
		stop := start(e)
		<-e.Done()
		records := e.Status().Records
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		want := config.Records{In: 100, Out: 70, Filtered: 10, Errored: 20, DeadLettered: 10, BytesIn: records.BytesIn, BytesOut: records.BytesOut}
		if records != want || out.len() != 70 || !dead.has(13) || dead.headers[13][HeaderComponent] != "cast" {
			t.Errorf("counted %+v, want %+v", records, want)
		}
	})
}

func TestFailingTransformBlocksThePipelineAndIsRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, out := &topic{t: t, count: 100, bounded: true, chunk: 50}, newStore("store")
		p := newPipeline(log.spec(), out.spec())
		p.cfg.Batching.Count = 50
		attempts := 0
		p.chain = func(batch *record.Batch) (transform.Result, error) {
			attempts++
			if attempts == 1 || attempts > 5 {
				return transform.Result{}, nil
			}
			batch.Records = batch.Records[:1] // as a half-applied chain may leave it
			return transform.Result{}, errors.New("transform cast: not a number")
		}
		e := p.build(t)
		stop := start(e)
		time.Sleep(300 * time.Millisecond)
		synctest.Wait()
		if status := e.Status(); status.LastError == "" || log.position() > 50 {
			t.Errorf("position %d, status %+v", log.position(), status)
		}
		<-e.Done()
		if status := e.Status(); status.LastError != "" || status.Records.Errored != 1 {
			t.Errorf("after recovery: %+v", status)
		}
		if err := stop(); err != nil || out.len() != 100 {
			t.Errorf("%v, %d records", err, out.len())
		}
	})
}

func TestTooLargeRecords(t *testing.T) {
	t.Run("go to the dead letter", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			log, out, dead := &topic{t: t, count: 10, size: 200, bounded: true}, newStore("store"), newStore("letters")
			p := newPipeline(log.spec(), out.spec())
			p.cfg.MaxRecordBytes = 100
			p.withDeadLetter(dead)
			e := p.build(t)
			stop := start(e)
			<-e.Done()
			if err := stop(); err != nil || dead.len() != 10 || out.len() != 0 {
				t.Errorf("%v: %d dead letters, %d written", err, dead.len(), out.len())
			}
		})
	})
	t.Run("hold the pipeline without one", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			log, out := &topic{t: t, count: 10, size: 200, bounded: true}, newStore("store")
			p := newPipeline(log.spec(), out.spec())
			p.cfg.MaxRecordBytes = 100
			e := p.build(t)
			stop := start(e)
			time.Sleep(time.Second)
			if text := e.Status().LastError; !strings.Contains(text, "topic/0@0") || !strings.Contains(text, "maxRecordBytes 100") {
				t.Errorf("last error %q", text)
			}
			if err := stop(); !errors.Is(err, ErrNotDrained) || log.committed != 0 {
				t.Errorf("%v, acknowledged %d", err, log.committed)
			}
		})
	})
}

func TestOversizedDeadLetterIsTruncated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, out, dead := &topic{t: t, count: 1, size: 3 * truncatedBytes, bounded: true}, newStore("store"), newStore("letters")
		out.poison = func(int) bool { return true }
		truncated := ""
		dead.before = func(_ context.Context, batch *record.Batch) error {
			r := &batch.Records[0]
			if r.Len() > 2*truncatedBytes {
				return backend.ErrInvalid
			}
			for _, h := range r.Headers {
				if h.Key == HeaderTruncated {
					truncated = string(h.Value)
				}
			}
			return nil
		}
		p := newPipeline(log.spec(), out.spec())
		p.cfg.Sinks[0].OnError = config.OnErrorDeadLetter
		p.withDeadLetter(dead)
		e := p.build(t)
		stop := start(e)
		<-e.Done()
		if err := stop(); err != nil || truncated != fmt.Sprint(3*truncatedBytes) {
			t.Errorf("%v, truncated header %q", err, truncated)
		}
	})
}
