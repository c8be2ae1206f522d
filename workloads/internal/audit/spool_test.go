// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func mustOpen(t *testing.T, dir string, limit int64) *spool {
	t.Helper()
	s, err := openSpool(dir, limit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s
}

func drain(t *testing.T, s *spool) (numbers []uint64, damaged int) {
	t.Helper()
	for {
		records, size, bad, err := s.read(7, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if size == 0 {
			return numbers, damaged
		}
		for _, r := range records {
			if want := fmt.Sprintf("line %d", r.number); string(bytes.TrimRight(r.payload, "x")) != want {
				t.Errorf("payload %.20q, want %q", r.payload, want)
			}
			numbers = append(numbers, r.number)
		}
		damaged += bad
		s.acknowledge(size)
	}
}

func fill(t *testing.T, s *spool, from, to, width int) {
	t.Helper()
	for n := from; n <= to; n++ {
		if err := s.append(append(fmt.Appendf(nil, "line %d", n), bytes.Repeat([]byte("x"), width)...), 0); err != nil {
			t.Fatalf("append %d: %v", n, err)
		}
	}
}

func check(t *testing.T, numbers []uint64, from, to uint64) {
	t.Helper()
	if len(numbers) != int(to-from+1) {
		t.Fatalf("%d lines, want %d to %d", len(numbers), from, to)
	}
	for i, n := range numbers {
		if n != from+uint64(i) {
			t.Fatalf("line %d is number %d, want %d", i, n, from+uint64(i))
		}
	}
}

func TestSpoolResumesAfterCrash(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, 1<<20)
	fill(t, s, 1, 300, 1000) // several segments
	id := s.id
	if _, err := openSpool(dir, 1<<20); err == nil {
		t.Error("two processes opened one directory")
	}
	s.close()

	// A crash left the last line incomplete.
	names, err := filepath.Glob(filepath.Join(dir, "*"+spoolSuffix))
	if err != nil || len(names) < 2 {
		t.Fatalf("segments %v, %v", names, err)
	}
	last, err := os.OpenFile(names[len(names)-1], os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := last.WriteString("301 abc {\"torn"); err != nil {
		t.Fatal(err)
	}
	last.Close()

	s = mustOpen(t, dir, 1<<20)
	if s.id != id {
		t.Errorf("id %s, was %s", s.id, id)
	}
	fill(t, s, 301, 320, 10)
	numbers, damaged := drain(t, s)
	if damaged != 0 {
		t.Errorf("%d damaged lines", damaged)
	}
	check(t, numbers, 1, 320)
	if left, _ := filepath.Glob(filepath.Join(dir, "*"+spoolSuffix)); len(left) != 1 {
		t.Errorf("files %v are left", left)
	}
	// Numbers continue after the database's, even if the files are gone.
	if err := s.startAfter(1000); err != nil {
		t.Fatal(err)
	}
	s.close()
	s = mustOpen(t, dir, 1<<20)
	fill(t, s, 1001, 1002, 0)
	numbers, _ = drain(t, s)
	check(t, numbers, 1001, 1002)
}

func TestSpoolIsBounded(t *testing.T) {
	const limit = 32 << 10
	s := mustOpen(t, t.TempDir(), limit)
	next, full := uint64(1), 0
	for range 20 {
		first := next
		for {
			err := s.append(fmt.Appendf(nil, "line %d", next), 0)
			if errors.Is(err, ErrFull) {
				full++
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			next++
			if s.total > limit {
				t.Fatalf("%d bytes, bound %d", s.total, limit)
			}
		}
		if next-first < 500 {
			t.Fatalf("only %d lines fit", next-first)
		}
		numbers, _ := drain(t, s)
		check(t, numbers, first, next-1)
	}
	if full != 20 {
		t.Errorf("full %d times", full)
	}
}

func TestSpoolSkipsDamage(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, 1<<20)
	fill(t, s, 1, 20, 0)
	name := s.segments[0].file.Name()
	s.close()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	data[bytes.Index(data, []byte("line 7"))] = 'X'
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, dir, 1<<20)
	numbers, damaged := drain(t, s)
	if damaged != 1 || len(numbers) != 19 {
		t.Errorf("%d damaged, %d whole; want 1 and 19", damaged, len(numbers))
	}
}

func TestReservationHoldsWhenTheSpoolIsFull(t *testing.T) {
	s := mustOpen(t, t.TempDir(), 8<<10)
	if err := s.reserve(4 << 10); err != nil {
		t.Fatal(err)
	}
	if err := s.reserve(5 << 10); !errors.Is(err, ErrFull) {
		t.Errorf("a second reservation beyond the bound: %v", err)
	}
	next := uint64(1)
	for s.append(fmt.Appendf(nil, "line %d", next), 0) == nil {
		next++
	}
	if s.total > 4<<10 {
		t.Errorf("%d unreserved bytes are used", s.total)
	}
	if err := s.append(fmt.Appendf(nil, "line %d", next), 4<<10); err != nil {
		t.Errorf("with a reservation: %v", err)
	}
	if err := s.append(fmt.Appendf(nil, "line %d", next+1), 0); err != nil {
		t.Errorf("after the reservation was used: %v", err)
	}
	numbers, _ := drain(t, s)
	check(t, numbers, 1, next+1)
	if s.reserved != 0 {
		t.Errorf("%d bytes stay reserved", s.reserved)
	}
}
