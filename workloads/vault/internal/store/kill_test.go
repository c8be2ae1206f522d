// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	wire "github.com/itechsmart/operator/workloads/vault/client"
)

// killer fires once, at the n-th message that the pool sends.
type killer struct {
	mu    sync.Mutex
	left  int // messages until it fires; 0: disarmed
	fired bool
	strike
}

// strike is the action at a message: before it is sent, or right after.
type strike struct {
	before, after func(*wireConn)
}

func (k *killer) arm(n int, s strike) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.left, k.fired, k.strike = n, false, s
}

// disarm reports whether it fired.
func (k *killer) disarm() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.left = 0
	return k.fired
}

func (k *killer) next() (strike, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.left == 0 {
		return strike{}, false
	}
	k.left--
	k.fired = k.left == 0
	return k.strike, k.fired
}

// wireConn counts what pgx sends.
type wireConn struct {
	net.Conn
	killer *killer
	mu     sync.Mutex
	pid    uint32 // of the server's process; 0 while connecting
}

func (c *wireConn) process() uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pid
}

func (c *wireConn) Write(data []byte) (int, error) {
	if c.process() == 0 {
		return c.Conn.Write(data)
	}
	strike, now := c.killer.next()
	if now && strike.before != nil {
		strike.before(c)
	}
	n, err := c.Conn.Write(data)
	if now && strike.after != nil {
		strike.after(c)
	}
	return n, err
}

// killedPrefix starts the application names of connections that are cut.
const killedPrefix = "cut "

// killable returns a pool whose connections the killer observes.
func killable(t testing.TB, pool *pgxpool.Pool) (*pgxpool.Pool, *killer) {
	t.Helper()
	k := &killer{}
	config := pool.Config()
	config.MinConns, config.MaxConns = 0, 4
	config.ConnConfig.RuntimeParams["application_name"] = killedPrefix + config.ConnConfig.RuntimeParams["application_name"]
	config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		return &wireConn{Conn: conn, killer: k}, err
	}
	config.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		w := conn.PgConn().Conn().(*wireConn)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.pid = conn.PgConn().PID()
		return nil
	}
	killed, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(killed.Close)
	return killed, k
}

// attack is one way to interrupt a request.
type attack struct {
	name string
	// strike is called with functions that cancel the request and end a process of the server.
	strike func(cancel func(), terminate func(pid uint32)) strike
}

var attacks = []attack{
	{"the request is canceled after a message", func(cancel func(), _ func(uint32)) strike {
		return strike{after: func(*wireConn) { cancel() }}
	}},
	{"pg_terminate_backend before a message", func(_ func(), terminate func(uint32)) strike {
		return strike{before: func(c *wireConn) { terminate(c.process()) }}
	}},
	{"pg_terminate_backend after a message", func(_ func(), terminate func(uint32)) strike {
		return strike{after: func(c *wireConn) { terminate(c.process()) }}
	}},
	{"the connection ends before the response", func(func(), func(uint32)) strike {
		return strike{after: func(c *wireConn) { c.Conn.Close() }}
	}},
}

// victim is an operation, with the states it may leave behind as the text of the secret's versions.
type victim struct {
	prepare func(t *testing.T, v Vault, path string)
	do      func(ctx context.Context, v Vault, path string) error
	// before and after are the versions' values without and with the operation; nil: not fixed.
	before, after []string
}

func one(t *testing.T, v Vault, path string) { mustCreate(t, v, path, "one") }
func two(t *testing.T, v Vault, path string) { one(t, v, path); mustPut(t, v, path, "two") }
func generated(t *testing.T, v Vault, path string) {
	applies(t, v, path, wire.Apply{Type: wire.TypeText, Generate: &wire.Generate{}, SourceHash: "h"}, 1, true)
}

// large is the smallest size that is stored in parts.
const large = mib + 1

func aFile(t *testing.T, v Vault, path string) { mustUpload(t, v, path, Upload{}, file(1, large)) }
func nothing(*testing.T, Vault, string)        {}

func failed(_ any, err error) error { return err }

var victims = map[string]victim{
	"Create": {nothing, func(ctx context.Context, v Vault, path string) error {
		return failed(v.Create(ctx, path, textWrite("one"), "ada"))
	}, nil, []string{"one"}},
	"Put": {one, func(ctx context.Context, v Vault, path string) error {
		return failed(v.Put(ctx, path, textWrite("two"), "ada"))
	}, []string{"one"}, []string{"one", "two"}},
	"Rollback": {two, func(ctx context.Context, v Vault, path string) error {
		return failed(v.Rollback(ctx, path, 1, "ada"))
	}, []string{"one", "two"}, []string{"one", "two", "one"}},
	"Apply of a new secret": {nothing, func(ctx context.Context, v Vault, path string) error {
		return failed(v.Apply(ctx, path, wire.Apply{Type: wire.TypeText, Value: text("one"), SourceHash: "h"}, "c"))
	}, nil, []string{"one"}},
	"Apply of a new value": {one, func(ctx context.Context, v Vault, path string) error {
		return failed(v.Apply(ctx, path, wire.Apply{Type: wire.TypeText, Value: text("two"), SourceHash: "h"}, "c"))
	}, []string{"one"}, []string{"one", "two"}},
	"Apply of a rotation": {generated, func(ctx context.Context, v Vault, path string) error {
		return failed(v.Apply(ctx, path, wire.Apply{Type: wire.TypeText, Generate: &wire.Generate{}, SourceHash: "h", Rotation: "r"}, "c"))
	}, nil, nil},
	"Rotate": {generated, func(ctx context.Context, v Vault, path string) error {
		return failed(v.Rotate(ctx, path, "ada"))
	}, nil, nil},
	"Upload": {nothing, func(ctx context.Context, v Vault, path string) error {
		return failed(v.Upload(ctx, path, Upload{CheckAndSet: ptr(int64(0))}, file(1, large), "ada"))
	}, nil, []string{"1048577"}},
	"Upload of a new version": {aFile, func(ctx context.Context, v Vault, path string) error {
		return failed(v.Upload(ctx, path, Upload{Replace: true}, file(2, large), "ada"))
	}, []string{"1048577"}, []string{"1048577", "1048577"}},
	"Destroy of a file": {aFile, func(ctx context.Context, v Vault, path string) error { return v.Destroy(ctx, path) }, []string{"1048577"}, nil},
	"DestroyVersion of a file": {aFile, func(ctx context.Context, v Vault, path string) error {
		return v.DestroyVersion(ctx, path, 1)
	}, []string{"1048577"}, nil},
	"Delete":         {two, func(ctx context.Context, v Vault, path string) error { return v.Delete(ctx, path) }, []string{"one", "two"}, nil},
	"Destroy":        {two, func(ctx context.Context, v Vault, path string) error { return v.Destroy(ctx, path) }, []string{"one", "two"}, nil},
	"DestroyVersion": {two, func(ctx context.Context, v Vault, path string) error { return v.DestroyVersion(ctx, path, 1) }, []string{"one", "two"}, []string{"two"}},
	"RotateSealingKey": {nothing, func(ctx context.Context, v Vault, _ string) error {
		return failed(v.RotateSealingKey(ctx))
	}, nil, nil},
	"MAC": {nothing, func(ctx context.Context, v Vault, _ string) error { return failed(v.MAC(ctx, text("x"))) }, nil, nil},
	"RotateRoot": {two, func(ctx context.Context, v Vault, _ string) error {
		return failed(v.RotateRoot(ctx, []byte(passphrase)))
	}, []string{"one", "two"}, []string{"one", "two"}},
	"Rewrap": {func(t *testing.T, v Vault, path string) {
		two(t, v, path)
		if _, err := v.RotateRoot(t.Context(), []byte(passphrase)); err != nil {
			t.Fatal(err)
		}
	}, func(ctx context.Context, v Vault, _ string) error { return v.Rewrap(ctx) }, []string{"one", "two"}, []string{"one", "two"}},
}

// TestKilledInTheMiddle interrupts every write at every message it sends, in four ways. Afterwards all of it or nothing
// is stored, what was acknowledged is stored, and everything opens.
func TestKilledInTheMiddle(t *testing.T) {
	for name, victim := range victims {
		t.Run(name, func(t *testing.T) {
			pool := openPool(t)
			for i, attack := range attacks {
				points := killAtEveryMessage(t, pool, victim, attack, fmt.Sprintf("a%d", i))
				if points < 2 {
					t.Errorf("%s: only %d points", attack.name, points)
				}
			}
			checkWhole(t, pool, replica(t, pool, namespace))
		})
	}
}

// killAtEveryMessage runs the operation until it ends before the killer fires, and returns how often it fired.
func killAtEveryMessage(t *testing.T, pool *pgxpool.Pool, x victim, a attack, folder string) (points int) {
	witness := replica(t, pool, namespace)
	killed, k := killable(t, pool)
	for n := 1; ; n++ {
		if n > 60 {
			t.Fatalf("%s: the operation does not end", a.name)
		}
		path := fmt.Sprintf("%s/p%d", folder, n)
		x.prepare(t, witness, path)
		o := options(namespace)
		o.RewrapBatch = 1000 // as many messages for many secrets; batches are TestRotationInterrupted's
		v := New(killed, o)
		if err := v.Unseal(t.Context(), []byte(passphrase)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		k.arm(n, a.strike(cancel, func(pid uint32) { terminate(t, pool, pid) }))
		err := x.do(ctx, v, path)
		cancel()
		fired := k.disarm()
		what := fmt.Sprintf("%s, message %d", a.name, n)
		if !fired && err != nil {
			t.Fatalf("%s: it did not fire: %v", what, err)
		}
		quiet(t, pool, killed)

		fresh := replica(t, pool, namespace) // starts without any in-memory state
		got := checkWhole(t, pool, fresh, path)[path]
		done, undone := slices.Equal(got, x.after), slices.Equal(got, x.before)
		if x.after != nil || x.before != nil {
			if !done && !undone {
				t.Errorf("%s: versions %q", what, got)
			}
			if err == nil && !done {
				t.Errorf("%s: it was acknowledged, and is missing: %q", what, got)
			}
		}
		if n, err := active(t, pool); err != nil || n != 1 {
			t.Errorf("%s: %d active root keys, %v", what, n, err)
		}
		if err := x.do(t.Context(), fresh, path); err != nil && !repeated(err) {
			t.Errorf("%s: again: %v", what, err)
		}
		if !fired {
			return points
		}
		points++
	}
}

// repeated reports whether the error means that the operation was done before.
func repeated(err error) bool { return errors.Is(err, ErrExists) || errors.Is(err, ErrNotFound) }

func active(t *testing.T, pool *pgxpool.Pool) (n int, err error) {
	err = pool.QueryRow(t.Context(), `SELECT count(*) FROM root_keys WHERE active`).Scan(&n)
	return n, err
}

// terminate ends a process of the server, and waits until it has exited.
func terminate(t *testing.T, pool *pgxpool.Pool, pid uint32) {
	var ended bool
	if err := pool.QueryRow(context.Background(), `SELECT pg_terminate_backend($1, 5000)`, pid).Scan(&ended); err != nil {
		t.Error(err)
	}
}

// quiet waits until the server has ended the sessions of lost clients.
func quiet(t *testing.T, pool, killed *pgxpool.Pool) {
	killed.Reset()
	eventually(t, "the server ends the requests", func() bool {
		var busy int
		// Idle is not enough: data sent before the cut may not have been read yet.
		err := pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity
			WHERE application_name = left($1 || current_setting('application_name'), 63)`, killedPrefix).Scan(&busy)
		if err != nil {
			t.Fatal(err)
		}
		return busy == 0
	})
}
