// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/google/uuid"
)

const (
	spoolSuffix = ".spool"
	maxSegment  = 4 << 20
	minSegment  = 4 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// spool is a queue of lines in files of one directory: "number crc payload\n". A line is in the page cache when append
// returns, which survives a crash of the process.
type spool struct {
	dir      string
	id       string // of this directory, permanently
	max      int64
	segBytes int64
	lock     *os.File

	mu       sync.Mutex
	segments []*segment // oldest first; the last one is written
	total    int64      // bytes in all segments
	reserved int64      // bytes reserved for later lines
	offset   int64      // bytes of segments[0] that were handed over
	next     uint64     // number of the next line
	buf      []byte
	closed   bool
}

type segment struct {
	file *os.File
	size int64
}

// spooled is one line of the spool.
type spooled struct {
	number  uint64
	payload []byte
}

// openSpool opens the directory for this process alone, and finds where the last one stopped.
func openSpool(dir string, limit int64) (*spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("audit spool: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("audit spool: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("audit spool %s is in use: %w", dir, err)
	}
	s := &spool{dir: dir, max: limit, segBytes: min(max(limit/16, minSegment), maxSegment), lock: lock}
	if err := s.recover(); err != nil {
		s.close()
		return nil, fmt.Errorf("audit spool: %w", err)
	}
	return s, nil
}

func (s *spool) recover() error {
	if err := s.loadID(); err != nil {
		return err
	}
	names, err := filepath.Glob(filepath.Join(s.dir, "*"+spoolSuffix))
	if err != nil {
		return err
	}
	slices.Sort(names)
	s.next = 1
	for i, name := range names {
		file, err := os.OpenFile(name, os.O_RDWR|os.O_APPEND, 0o600)
		if err != nil {
			return err
		}
		seg := &segment{file: file}
		s.segments = append(s.segments, seg)
		if err := s.recoverSegment(seg, name, i == len(names)-1); err != nil {
			return err
		}
		s.total += seg.size
	}
	if len(s.segments) == 0 {
		return s.roll()
	}
	return nil
}

// recoverSegment determines the size; of the last segment also the last number, and it truncates a line that a crash left
// incomplete.
func (s *spool) recoverSegment(seg *segment, name string, last bool) error {
	info, err := seg.file.Stat()
	if err != nil {
		return err
	}
	seg.size = info.Size()
	if !last {
		return nil
	}
	first, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(name), spoolSuffix), 10, 64)
	if err != nil {
		return fmt.Errorf("unknown file %s: %w", filepath.Base(name), err)
	}
	s.next = first
	data := make([]byte, seg.size)
	if _, err := seg.file.ReadAt(data, 0); err != nil && seg.size > 0 {
		return err
	}
	whole := int64(bytes.LastIndexByte(data, '\n') + 1)
	if whole < seg.size {
		if err := seg.file.Truncate(whole); err != nil {
			return err
		}
		seg.size = whole
	}
	for line := range bytes.Lines(data[:whole]) {
		if r, ok := parseLine(line); ok {
			s.next = r.number + 1
		}
	}
	return nil
}

// loadID reads the directory's name in the database, or creates one.
func (s *spool) loadID() error {
	name := filepath.Join(s.dir, "id")
	data, err := os.ReadFile(name)
	if err == nil && len(data) > 0 {
		s.id = string(data)
		return nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	s.id = uuid.NewString()
	temporary := name + ".new"
	if err := os.WriteFile(temporary, []byte(s.id), 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, name)
}

// startAfter makes numbers continue after one that the database already has.
func (s *spool) startAfter(position uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next > position {
		return nil
	}
	s.next = position + 1
	return s.roll() // its name contains the number
}

// reserve reserves room for a later line.
func (s *spool) reserve(size int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	if err := s.room(size); err != nil {
		return err
	}
	s.reserved += size
	return nil
}

func (s *spool) release(size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reserved -= size
}

// room returns ErrFull unless size bytes fit in addition to the reserved ones.
func (s *spool) room(size int64) error {
	if s.total+s.reserved+size > s.max && s.drained() && s.total > 0 {
		if err := s.roll(); err != nil {
			return fmt.Errorf("%w: %w", ErrFull, err)
		}
	}
	if s.total+s.reserved+size > s.max {
		return fmt.Errorf("%w: %d bytes wait for the database", ErrFull, s.total)
	}
	return nil
}

var errClosed = fmt.Errorf("%w: it is closed", ErrFull)

// append appends a payload without newlines, or returns ErrFull; if room was reserved, only when the disk fails.
func (s *spool) append(payload []byte, reserved int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reserved -= reserved
	if s.closed {
		return errClosed
	}
	s.buf = appendLine(s.buf[:0], s.next, payload)
	size := int64(len(s.buf))
	if err := s.room(size); err != nil && reserved == 0 {
		return err
	}
	if s.segments[len(s.segments)-1].size >= s.segBytes {
		if err := s.roll(); err != nil {
			return fmt.Errorf("%w: %w", ErrFull, err)
		}
	}
	active := s.segments[len(s.segments)-1]
	if _, err := active.file.Write(s.buf); err != nil {
		// A partial line may remain: no other may follow it.
		if cut := active.file.Truncate(active.size); cut != nil {
			s.next++ // a number of its own for the new segment's name
			err = errors.Join(err, cut, s.roll())
		}
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	active.size += size
	s.total += size
	s.next++
	return nil
}

func (s *spool) drained() bool { return len(s.segments) == 1 && s.offset == s.segments[0].size }

// roll starts a new segment, and removes those that were handed over.
func (s *spool) roll() error {
	name := filepath.Join(s.dir, fmt.Sprintf("%020d%s", s.next, spoolSuffix))
	file, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR|os.O_APPEND, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil // the active one is empty: it starts with this very number
	}
	if err != nil {
		return err
	}
	s.segments = append(s.segments, &segment{file: file})
	s.drop()
	return nil
}

// drop removes segments that were handed over, except the one being written.
func (s *spool) drop() {
	for len(s.segments) > 1 && s.offset >= s.segments[0].size {
		old := s.segments[0]
		s.total -= old.size
		s.segments, s.offset = s.segments[1:], 0
		_ = old.file.Close()
		_ = os.Remove(old.file.Name())
	}
}

// read returns up to limit lines after the acknowledged ones, their size in bytes, and how many of them were damaged.
// Only one reader may read and acknowledge.
func (s *spool) read(limit int, limitBytes int64) (records []spooled, size int64, damaged int, err error) {
	s.mu.Lock()
	s.drop()
	if s.closed {
		s.mu.Unlock()
		return nil, 0, 0, os.ErrClosed
	}
	seg, from := s.segments[0], s.offset
	data := make([]byte, min(seg.size-from, limitBytes))
	s.mu.Unlock()
	if len(data) == 0 {
		return nil, 0, 0, nil
	}
	if _, err := seg.file.ReadAt(data, from); err != nil {
		return nil, 0, 0, fmt.Errorf("read audit spool: %w", err)
	}
	for line := range bytes.Lines(data) {
		if line[len(line)-1] != '\n' {
			break // truncated by the limit
		}
		if len(records) == limit {
			break
		}
		size += int64(len(line))
		if r, ok := parseLine(line); ok {
			records = append(records, r)
		} else {
			damaged++
		}
	}
	if size == 0 {
		return nil, int64(len(data)), 1, nil // no line is this long: the file is damaged
	}
	return records, size, damaged, nil
}

// acknowledge discards what read returned.
func (s *spool) acknowledge(size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offset += size
	s.drop()
}

// waiting returns how many bytes are not handed over yet.
func (s *spool) waiting() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total - s.offset
}

func (s *spool) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, seg := range s.segments {
		_ = seg.file.Close()
	}
	_ = s.lock.Close()
}

func appendLine(b []byte, number uint64, payload []byte) []byte {
	b = strconv.AppendUint(b, number, 10)
	b = append(b, ' ')
	b = strconv.AppendUint(b, uint64(crc32.Checksum(payload, castagnoli)), 16)
	b = append(b, ' ')
	return append(append(b, payload...), '\n')
}

func parseLine(line []byte) (spooled, bool) {
	number, rest, ok := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
	sum, payload, found := bytes.Cut(rest, []byte(" "))
	if !ok || !found {
		return spooled{}, false
	}
	n, err := strconv.ParseUint(string(number), 10, 63)
	if err != nil {
		return spooled{}, false
	}
	crc, err := strconv.ParseUint(string(sum), 16, 32)
	if err != nil || uint32(crc) != crc32.Checksum(payload, castagnoli) {
		return spooled{}, false
	}
	return spooled{number: n, payload: payload}, true
}
