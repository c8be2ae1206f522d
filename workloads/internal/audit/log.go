// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/itechsmart/operator/workloads/internal/db"
)

const (
	// linger is how long the first event of a batch waits for others: callers do not wait for it.
	linger = 20 * time.Millisecond
	// batchRows and batchBytes limit one transaction.
	batchRows, batchBytes = 1000, 1 << 20
	batchTimeout          = 15 * time.Second
	// A checkpoint is stored when the chain passes a multiple of checkpointRows, or the last one is checkpointEvery old.
	checkpointRows  = 1000
	checkpointEvery = time.Minute
	retainEvery     = time.Hour

	minBackoff, maxBackoff = 50 * time.Millisecond, 5 * time.Second

	defaultRetention  = 90 * 24 * time.Hour
	defaultSpillBytes = 64 << 20
)

// Actions of the log itself.
const (
	ActionTampered = "audit.tampered" // the head was not signed by this service's key
	ActionDamaged  = "audit.damaged"  // lines of the spool could not be read
)

// Options of a Log.
type Options struct {
	// Product is the owner of the chain. Key signs checkpoints.
	Product string
	Key     ed25519.PrivateKey
	// Retention is how long events are kept; 90 days if zero.
	Retention time.Duration
	// SpillDir is this process's own directory for events that the database has not stored yet; SpillBytes limits it, 64
	// MiB if zero.
	SpillDir   string
	SpillBytes int64
	// Lines gets each event as a JSON line, in the form of an export, once the database has it; nil: none.
	Lines io.Writer
	Log   *slog.Logger
	// Now is the clock; time.Now if nil.
	Now func() time.Time
}

// Log is the audit log of a product. All replicas share one chain, in the product's schema.
type Log struct {
	options Options
	public  ed25519.PublicKey
	pool    *pgxpool.Pool
	spool   *spool
	metrics metrics

	wake    chan struct{}
	stop    context.CancelFunc
	stopped sync.WaitGroup

	mu        sync.Mutex
	caughtUp  chan struct{} // closed when the spool is empty; nil: nothing waits
	recordBuf []byte
}

var _ Recorder = (*Log)(nil)

// Open migrates the product's schema, claims the spill directory for this process, and stores what an earlier process
// left there. Close it.
func Open(ctx context.Context, pool *pgxpool.Pool, options Options) (*Log, error) {
	if len(options.Key) != ed25519.PrivateKeySize {
		return nil, errors.New("audit: no key to sign with")
	}
	if options.Product == "" || options.SpillDir == "" {
		return nil, errors.New("audit: product and spill directory are required")
	}
	if options.Retention == 0 {
		options.Retention = defaultRetention
	}
	if options.SpillBytes == 0 {
		options.SpillBytes = defaultSpillBytes
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	if options.Now == nil {
		options.Now = time.Now
	}
	if err := db.Migrate(ctx, pool, Migrations(), options.Log); err != nil {
		return nil, fmt.Errorf("migrate the audit log: %w", err)
	}
	s, err := openSpool(options.SpillDir, options.SpillBytes)
	if err != nil {
		return nil, err
	}
	at, err := position(ctx, pool, s.id)
	if err = errors.Join(err, makeHead(ctx, pool)); err == nil {
		err = s.startAfter(at)
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("audit log: %w", err)
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	l := &Log{
		options: options, public: options.Key.Public().(ed25519.PublicKey), pool: pool, spool: s,
		metrics: newMetrics(s), wake: make(chan struct{}, 1), stop: stop,
	}
	l.stopped.Go(func() { l.handOver(run) })
	l.stopped.Go(func() { l.retain(run) })
	l.poke()
	return l, nil
}

// now returns the time in the precision of the database.
func (l *Log) now() time.Time { return l.options.Now().UTC().Truncate(time.Microsecond) }

// Public returns the key for the verifier.
func (l *Log) Public() ed25519.PublicKey { return l.public }

// Record appends an event to the spill; the database follows within milliseconds, or once it is available. It returns
// ErrFull at once if SpillBytes are waiting. It ignores the context: what was done is recorded, even if the client
// disconnected.
func (l *Log) Record(_ context.Context, event Event) error { return l.record(event, 0) }

// record uses the reserved bytes, and more if there is room.
func (l *Log) record(event Event, reserved int64) error {
	if event.Product == "" {
		event.Product = l.options.Product
	}
	normalize(&event, l.now())
	l.mu.Lock()
	l.recordBuf = appendCanonical(l.recordBuf[:0], &event)
	err := l.spool.append(l.recordBuf, reserved)
	l.mu.Unlock()
	if err != nil {
		l.metrics.refused.Inc()
		return err
	}
	l.metrics.recorded.Inc()
	l.poke()
	return nil
}

func (l *Log) poke() {
	select {
	case l.wake <- struct{}{}:
	default: // a wake-up is already pending
	}
}

// Flush waits until the database has everything that was recorded before the call, or the context ends.
func (l *Log) Flush(ctx context.Context) error {
	l.mu.Lock()
	if l.caughtUp == nil {
		l.caughtUp = make(chan struct{})
	}
	done := l.caughtUp
	l.mu.Unlock()
	l.poke()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("audit: %d bytes still wait for the database: %w", l.spool.waiting(), ctx.Err())
	}
}

// Close stores what is pending until the context ends, and stops. The rest stays in the spill directory.
func (l *Log) Close(ctx context.Context) error {
	err := l.Flush(ctx)
	l.stop()
	l.stopped.Wait()
	l.spool.close()
	return err
}

// handOver moves events from the spool into the database, batch by batch.
func (l *Log) handOver(ctx context.Context) {
	backoff := minBackoff
	for {
		if !pause(ctx, l.wake, 0) || !pause(ctx, nil, linger) {
			return
		}
		for {
			more, err := l.handOverBatch(ctx)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				l.metrics.failures.Inc()
				l.options.Log.Warn("audit log: the database does not accept events; they wait in the spill",
					"error", err, "bytes", l.spool.waiting(), "retryAfter", backoff)
				if !pause(ctx, nil, backoff/2+rand.N(backoff)) {
					return
				}
				backoff = min(2*backoff, maxBackoff)
				continue
			}
			backoff = minBackoff
			if !more {
				break
			}
		}
	}
}

// handOverBatch moves one batch, and reports whether there may be more.
func (l *Log) handOverBatch(ctx context.Context) (more bool, err error) {
	l.mu.Lock()
	waiter := l.caughtUp
	l.mu.Unlock()
	records, size, damaged, err := l.spool.read(batchRows, batchBytes)
	if err != nil {
		return false, err
	}
	if size == 0 {
		l.mu.Lock()
		if waiter != nil && l.caughtUp == waiter {
			close(waiter)
			l.caughtUp = nil
		}
		l.mu.Unlock()
		return false, nil
	}
	batch, cancel := context.WithTimeout(ctx, batchTimeout)
	defer cancel()
	rows, err := l.takeOver(batch, records)
	if err != nil {
		return false, err
	}
	if damaged > 0 {
		l.options.Log.Error("audit log: lines of the spill are damaged", "lines", damaged)
		l.recordDamage(damaged)
	}
	l.writeLines(rows)
	l.spool.acknowledge(size)
	l.metrics.handedOver.Add(float64(len(rows)))
	return true, nil
}

// recordDamage records in the log itself that events are lost. It may be recorded twice, but never not at all.
func (l *Log) recordDamage(lines int) {
	err := l.Record(context.Background(), Event{
		User: "audit", Action: ActionDamaged, Outcome: Failed, Object: "audit",
		Details: map[string]string{"lines": fmt.Sprint(lines)},
	})
	if err != nil {
		l.options.Log.Error("audit log: the damage is not recorded", "error", err)
	}
}

func (l *Log) writeLines(rows []row) {
	if l.options.Lines == nil || len(rows) == 0 {
		return
	}
	var b []byte
	for i := range rows {
		b = rows[i].appendLine(b)
	}
	if _, err := l.options.Lines.Write(b); err != nil {
		l.options.Log.Error("audit log: write JSON lines", "error", err)
	}
}

// pause waits for the duration, or for the channel if the duration is zero; false: the context ended.
func pause(ctx context.Context, wake <-chan struct{}, d time.Duration) bool {
	var timer <-chan time.Time
	if d > 0 {
		timer = time.After(d)
	}
	select {
	case <-ctx.Done():
		return false
	case <-wake:
		return true
	case <-timer:
		return true
	}
}
