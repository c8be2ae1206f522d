// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bufio"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
)

const crashEnv = "AUDIT_CRASH_DIR"

func crashDir() string { return os.Getenv(crashEnv) }

// recordUntilKilled is the process that is killed: it prints the last recorded event.
func recordUntilKilled(dir string) {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, os.Getenv("AUDIT_CRASH_DSN"))
	if err != nil {
		panic(err)
	}
	l, err := Open(ctx, pool, Options{Product: "vault", Key: testKey, SpillDir: dir})
	if err != nil {
		panic(err)
	}
	first, err := strconv.Atoi(os.Getenv("AUDIT_CRASH_FIRST"))
	if err != nil {
		panic(err)
	}
	for n := first; ; n++ {
		if err := l.Record(ctx, event(n)); err != nil {
			panic(err)
		}
		fmt.Println(n)
	}
}

func TestProcessKilled(t *testing.T) {
	pool := newSchema(t, servers.Postgres(t))
	dir := t.TempDir()
	text := pool.Config().ConnString()
	next := 1
	unsure := map[int]bool{} // may be recorded, but not acknowledged
	for range 4 {
		last := runUntilKilled(t, dir, text, next, 400)
		unsure[last+1] = true
		next = last + 2
	}
	l := open(t, pool, func(o *Options) { o.SpillDir = dir })
	flush(t, l)
	seen := map[string]bool{}
	entries := allEntries(t, l)
	for _, e := range entries {
		if seen[e.RequestID] {
			t.Errorf("event %s is duplicated", e.RequestID)
		}
		seen[e.RequestID] = true
	}
	for n := 1; n < next; n++ {
		if !seen[strconv.Itoa(n)] && !unsure[n] {
			t.Errorf("event %d was acknowledged but lost", n)
		}
	}
	verify(t, l, int64(len(entries)))
}

// runUntilKilled kills a recorder with SIGKILL after count events, and returns the last one it acknowledged.
func runUntilKilled(t *testing.T, dir, text string, first, count int) int {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashEnv+"="+dir, "AUDIT_CRASH_DSN="+text, "AUDIT_CRASH_FIRST="+strconv.Itoa(first))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	last := 0
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if n, err := strconv.Atoi(lines.Text()); err == nil {
			last = n
		}
		if last == first+count {
			if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait()
	if last < first+count {
		t.Fatalf("the recorder exited by itself after event %d", last)
	}
	return last
}

func allEntries(t *testing.T, l *Log) []Entry {
	t.Helper()
	var all []Entry
	for before := int64(0); ; {
		page, next, err := l.List(t.Context(), Filter{Before: before, Limit: MaxLimit})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, page...)
		if next == 0 {
			return all
		}
		before = next
	}
}

func sizeOf(t testing.TB, dir string) (size int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return size
}
