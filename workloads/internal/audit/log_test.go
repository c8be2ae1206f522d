// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
)

func TestRecordListExport(t *testing.T) {
	pool := newSchema(t, servers.Postgres(t))
	var lines bytes.Buffer
	l := open(t, pool, func(o *Options) { o.Lines = &lines })
	record(t, l, 1, 25)
	flush(t, l)
	other := event(26)
	other.User, other.Action, other.Object, other.Outcome = "bob@example.com", "policy.delete", "policy/50%_off", Denied
	if err := l.Record(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	flush(t, l)

	for _, c := range []struct {
		name   string
		filter Filter
		first  string
		count  int
		next   int64
	}{
		{"all", Filter{}, "policy/50%_off", 26, 0},
		{"page", Filter{Limit: 10}, "policy/50%_off", 10, 17},
		{"next page", Filter{Limit: 10, Before: 17}, "secret/db/password@16", 10, 7},
		{"last page", Filter{Limit: 10, Before: 7}, "secret/db/password@6", 6, 0},
		{"user", Filter{User: "bob@example.com"}, "policy/50%_off", 1, 0},
		{"object", Filter{Object: "secret/db/password@3"}, "secret/db/password@3", 1, 0},
		{"prefix", Filter{Object: "secret/db/*", Limit: 25}, "secret/db/password@25", 25, 0},
		{"a prefix is not a pattern", Filter{Object: "policy/5__*"}, "", 0, 0},
		{"prefix with the pattern's characters", Filter{Object: "policy/50%_*"}, "policy/50%_off", 1, 0},
		{"action and user", Filter{Action: "policy.*", User: "ada@example.com"}, "", 0, 0},
		{"until the past", Filter{Until: time.Now().Add(-time.Hour)}, "", 0, 0},
		{"since the past", Filter{Since: time.Now().Add(-time.Hour)}, "policy/50%_off", 26, 0},
	} {
		got, next, err := l.List(t.Context(), c.filter)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if len(got) != c.count || next != c.next || (c.count > 0 && got[0].Object != c.first) {
			t.Errorf("%s: %d entries, next %d, first %+v; want %d, %d, %q", c.name, len(got), next, got[:min(1, len(got))], c.count, c.next, c.first)
		}
	}
	entries, _, err := l.List(t.Context(), Filter{Object: "secret/db/password@3"})
	if err != nil {
		t.Fatal(err)
	}
	want := event(3)
	want.Product, want.Time = "vault", entries[0].Time
	if got := entries[0].Event; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("read back %+v\nwant %+v", got, want)
	}
	report := verify(t, l, 26)
	if report.First != 1 || report.Last != 26 || report.Signed != 26 || report.Anchored {
		t.Errorf("report %+v", report)
	}
	// The JSON lines are those of the export, without its signatures.
	var events []string
	for _, line := range export(t, l) {
		if !strings.HasPrefix(line, `{"mark"`) {
			events = append(events, line)
		}
	}
	if got := lines.String(); got != strings.Join(events, "") {
		t.Errorf("JSON lines %s\nwant %s", got, events)
	}
}

func TestReplicasShareOneChain(t *testing.T) {
	b := servers.Postgres(t)
	pool := newSchema(t, b)
	const replicas, each = 4, 500
	var logs []*Log
	for range replicas {
		logs = append(logs, open(t, pool))
	}
	var wait sync.WaitGroup
	for i, l := range logs {
		wait.Go(func() {
			for n := range each {
				if err := l.Record(t.Context(), event(i*each+n)); err != nil {
					t.Errorf("record: %v", err)
				}
			}
		})
	}
	wait.Wait()
	for _, l := range logs {
		flush(t, l)
	}
	verify(t, logs[0], replicas*each)
	objects(t, logs[0], replicas*each)
}

// objects checks that events 0 to n-1 (or 1 to n) exist once each.
func objects(t *testing.T, l *Log, n int) {
	t.Helper()
	seen := map[string]int{}
	for _, line := range export(t, l) {
		var w struct{ Event Event }
		if err := json.Unmarshal([]byte(line), &w); err != nil {
			t.Fatal(err)
		}
		if w.Event.Action != "" {
			seen[w.Event.Object]++
		}
	}
	if len(seen) != n {
		t.Errorf("%d different events, want %d", len(seen), n)
	}
	for object, count := range seen {
		if count != 1 {
			t.Errorf("%s exists %d times", object, count)
		}
	}
}

func TestServerStoppedAndKilled(t *testing.T) {
	server := servers.StartPostgres(t)
	pool := newSchema(t, server.Binding)
	l := open(t, pool)
	record(t, l, 1, 100)
	flush(t, l)

	server.Stop()
	began := time.Now()
	record(t, l, 101, 600)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("500 events without a database took %s", took)
	}
	server.Restart(t)
	flush(t, l)
	verify(t, l, 600)

	// Killed in the middle of commits, three times.
	next := 601
	for range 3 {
		stop := make(chan struct{})
		done := make(chan int)
		go func() {
			n := next
			for ; ; n++ {
				select {
				case <-stop:
					done <- n
					return
				default:
				}
				if err := l.Record(context.Background(), event(n)); err != nil {
					t.Errorf("record %d: %v", n, err)
				}
				if n%50 == 0 {
					time.Sleep(time.Millisecond) // a rate, not a condition
				}
			}
		}()
		waitFor(t, func() bool {
			entries, _, err := l.List(t.Context(), Filter{Limit: 1})
			return err == nil && entries[0].Seq >= int64(next+200)
		})
		server.Kill()
		close(stop)
		next = <-done
		server.Restart(t)
		flush(t, l)
	}
	verify(t, l, int64(next-1))
	objects(t, l, next-1)
}

func waitFor(t testing.TB, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the condition was not met within a minute")
		}
	}
}

func TestFullSpillRefusesAtOnce(t *testing.T) {
	server := servers.StartPostgres(t)
	pool := newSchema(t, server.Binding)
	dir := t.TempDir()
	const bound = 64 << 10
	l := open(t, pool, func(o *Options) { o.SpillDir, o.SpillBytes = dir, bound })
	server.Stop()
	n := 0
	var err error
	for ; n < 10000; n++ {
		if err = l.Record(t.Context(), event(n)); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrFull) || n < 50 {
		t.Fatalf("after %d events: %v, want ErrFull", n, err)
	}
	began := time.Now()
	if err := l.Record(t.Context(), event(n)); !errors.Is(err, ErrFull) || time.Since(began) > time.Second {
		t.Errorf("a full spill returned %v after %s", err, time.Since(began))
	}
	if size := sizeOf(t, dir); size > bound+1024 {
		t.Errorf("the spill has %d bytes, limit %d", size, bound)
	}
	server.Restart(t)
	flush(t, l)
	record(t, l, n, n+99)
	flush(t, l)
	verify(t, l, int64(n+100))
	objects(t, l, n+100)
	if size := sizeOf(t, dir); size > bound+1024 {
		t.Errorf("the spill has %d bytes afterwards, limit %d", size, bound)
	}
}

// A database that accepts connections and does not respond must not block Record.
func TestHangingDatabase(t *testing.T) {
	pool := newSchema(t, servers.Postgres(t))
	l := open(t, pool)
	record(t, l, 1, 10)
	flush(t, l)
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT 1 FROM audit_marks FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	record(t, l, 11, 1000)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("990 events while the head is locked took %s", took)
	}
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := l.Flush(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("flush of a locked database: %v", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	flush(t, l)
	verify(t, l, 1000)
}

func TestRetentionLeavesAnAnchor(t *testing.T) {
	pool := newSchema(t, servers.Postgres(t))
	var mu sync.Mutex
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	l := open(t, pool, func(o *Options) { o.Now = clock })
	record(t, l, 1, 40)
	flush(t, l)
	mu.Lock()
	now = now.Add(60 * 24 * time.Hour)
	mu.Unlock()
	record(t, l, 41, 50)
	flush(t, l)
	if n, err := l.deleteOld(t.Context()); n != 0 || err != nil {
		t.Fatalf("60 days: deleted %d, %v", n, err)
	}
	mu.Lock()
	now = now.Add(31 * 24 * time.Hour)
	mu.Unlock()
	if n, err := l.deleteOld(t.Context()); n != 40 || err != nil {
		t.Fatalf("91 days: deleted %d, %v", n, err)
	}
	report := verify(t, l, 10)
	if !report.Anchored || report.First != 41 || report.Last != 50 {
		t.Errorf("report %+v", report)
	}
	record(t, l, 51, 60)
	flush(t, l)
	verify(t, l, 20)
	mu.Lock()
	now = now.Add(365 * 24 * time.Hour)
	mu.Unlock()
	if n, err := l.deleteOld(t.Context()); n != 20 || err != nil {
		t.Fatalf("a year: deleted %d, %v", n, err)
	}
	verify(t, l, 0)
	record(t, l, 61, 61)
	flush(t, l)
	if report := verify(t, l, 1); report.First != 61 {
		t.Errorf("report %+v", report)
	}
	// A checkpoint is not an anchor: an attacker who deletes old events cannot hide it.
	lines := export(t, l)
	if _, err := Verify(strings.NewReader(strings.Join(lines[1:], "")), l.Public()); err == nil {
		t.Error("an export without its anchor verifies")
	}
	forged := strings.Replace(lines[len(lines)-1], `"mark":"head"`, `"mark":"anchor"`, 1)
	if _, err := Verify(strings.NewReader(forged), l.Public()); err == nil {
		t.Error("a head as an anchor verifies")
	}
}

func TestRewrittenDatabaseIsDetected(t *testing.T) {
	pool := newSchema(t, servers.Postgres(t))
	l := open(t, pool)
	record(t, l, 1, 20)
	flush(t, l)
	// An attacker with the database's password, but without the key, rewrites event 5 and all that follow.
	rewrite(t, l, 5)
	record(t, l, 21, 30)
	flush(t, l)
	entries, _, err := l.List(t.Context(), Filter{Action: ActionTampered})
	if err != nil || len(entries) != 1 {
		t.Errorf("%d findings, %v; want one", len(entries), err)
	}
	_, err = Verify(strings.NewReader(strings.Join(export(t, l), "")), l.Public())
	var broken *BrokenError
	if !errors.As(err, &broken) {
		t.Errorf("the verifier returned %v", err)
	}
}

func rewrite(t *testing.T, l *Log, from int64) {
	t.Helper()
	var prev Hash
	for seq := int64(1); seq <= 20; seq++ {
		var text string
		var hash []byte
		if err := l.pool.QueryRow(t.Context(), `SELECT event, hash FROM audit_events WHERE seq = $1`, seq).Scan(&text, &hash); err != nil {
			t.Fatal(err)
		}
		if seq < from {
			prev = Hash(hash)
			continue
		}
		if seq == from {
			text = strings.Replace(text, "ada@", "eve@", 1)
		}
		next := link(prev, seq, []byte(text))
		if _, err := l.pool.Exec(t.Context(), `UPDATE audit_events SET event = $2, prev = $3, hash = $4 WHERE seq = $1`,
			seq, text, prev[:], next[:]); err != nil {
			t.Fatal(err)
		}
		prev = next
	}
	if _, err := l.pool.Exec(t.Context(), `UPDATE audit_marks SET hash = $1 WHERE kind = 'head'`, prev[:]); err != nil {
		t.Fatal(err)
	}
}
