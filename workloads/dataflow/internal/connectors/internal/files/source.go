// SPDX-License-Identifier: Apache-2.0

package files

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"sync"
	"time"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/dataflow/internal/codec"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connector"
	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
)

// Place records how far a source has read: all files up to Name are done, except Name itself unless Done is
// set; of that, Records are.
type Place struct {
	Name     string    `json:"name"`
	Modified time.Time `json:"modified,omitzero"`
	Records  int64     `json:"records"`
	Done     bool      `json:"done"`
}

// source reads one file after another, in an order in which a few bytes describe a position.
type source struct {
	cfg   SourceConfig
	env   connector.Env
	store Store
	state string // the state's name
	limit int64

	next    Place // after the last batch that Read returned
	batches chan result
	stop    context.CancelFunc
	running sync.WaitGroup
}

type result struct {
	batch *record.Batch
	err   error
}

// OpenSource loads the position and resumes there. It takes ownership of the store.
func OpenSource(ctx context.Context, cfg SourceConfig, store Store, env connector.Env) (connector.Source, error) {
	s := &source{cfg: cfg, env: env, store: store, state: env.Group + "." + env.Component + ".json", limit: env.MaxRecordBytes}
	if s.limit <= 0 {
		s.limit = 16 << 20
	}
	data, err := store.LoadState(ctx, s.state)
	if err == nil && len(data) > 0 {
		if err = json.Unmarshal(data, &s.next); err != nil {
			err = fmt.Errorf("the stored position %s is damaged; remove it to read all files again: %w", s.state, backend.ErrInvalid)
		}
	}
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return s, nil
}

// Read returns the next batch of a scan that runs a batch or two ahead.
func (s *source) Read(ctx context.Context) (*record.Batch, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.batches == nil {
		s.start()
	}
	select {
	case r := <-s.batches:
		if r.err != nil {
			s.halt() // the next Read starts again after the last batch
			return nil, r.err
		}
		s.next = r.batch.Position.(Place)
		return r.batch, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *source) start() {
	ctx, cancel := context.WithCancel(context.Background())
	out := make(chan result, 1)
	s.batches, s.stop = out, cancel
	from := s.next
	s.running.Go(func() {
		scan := &scan{source: s, ctx: ctx, out: out, place: from}
		err := scan.run()
		select {
		case out <- result{err: err}:
		case <-ctx.Done():
		}
	})
}

func (s *source) halt() {
	if s.batches == nil {
		return
	}
	s.stop()
	s.running.Wait()
	s.batches = nil
}

// Ack stores the last batch's position.
func (s *source) Ack(ctx context.Context, batches []*record.Batch) error {
	if len(batches) == 0 {
		return nil
	}
	place, ok := batches[len(batches)-1].Position.(Place)
	if !ok {
		return fmt.Errorf("batch does not belong to this source: %w", backend.ErrInvalid)
	}
	data, err := json.Marshal(place)
	if err != nil {
		return fmt.Errorf("store the position: %w", err)
	}
	return s.store.SaveState(ctx, s.state, data)
}

// Close ends the scan.
func (s *source) Close(context.Context) error {
	s.halt()
	return s.store.Close()
}

// scan is one pass over the files from a position on.
type scan struct {
	*source
	ctx   context.Context
	out   chan<- result
	place Place
	batch *record.Batch
	bytes int64
}

func (s *scan) run() error {
	for {
		entries, more, err := s.list()
		if err != nil {
			return err
		}
		for _, entry := range entries {
			if err := s.file(entry); err != nil {
				return err
			}
		}
		if more {
			continue
		}
		if !s.cfg.Watch {
			return connector.ErrFinished
		}
		timer := time.NewTimer(time.Duration(s.cfg.Interval))
		select {
		case <-timer.C:
		case <-s.ctx.Done():
			timer.Stop()
			return s.ctx.Err()
		}
	}
}

// list returns the files to read next, in order. A file that has not settled yet ends the list, because files
// that sort after it must not be read before it.
func (s *scan) list() (wanted []Entry, more bool, err error) {
	var entries []Entry
	if s.cfg.Order == "modified" {
		entries, err = s.listAll()
	} else {
		// Start just before the position's name, so that a partly read file is found again.
		entries, more, err = s.store.List(s.ctx, s.listFrom())
	}
	if err != nil {
		return nil, false, err
	}
	for _, entry := range entries {
		if !s.cfg.Wants(entry.Name) || !s.behind(entry) {
			continue
		}
		if settle := time.Duration(s.cfg.Settle); settle > 0 && time.Since(entry.Modified) < settle {
			return wanted, false, nil
		}
		wanted = append(wanted, entry)
	}
	if more && len(wanted) == 0 {
		// Nothing of this page is wanted: continue after it.
		last := entries[len(entries)-1]
		s.place = Place{Name: last.Name, Modified: last.Modified, Done: true}
	}
	return wanted, more, nil
}

func (s *scan) listFrom() string {
	if s.place.Name == "" || s.place.Done {
		return s.place.Name
	}
	// The greatest name below: decrement the last byte, then append the highest bytes.
	last := len(s.place.Name) - 1
	if c := s.place.Name[last]; c > 0 {
		return s.place.Name[:last] + string([]byte{c - 1}) + "\xf4\x8f\xbf\xbf"
	}
	return s.place.Name[:last]
}

func (s *scan) listAll() ([]Entry, error) {
	var all []Entry
	after := ""
	for {
		entries, more, err := s.store.List(s.ctx, after)
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			if s.cfg.Wants(entry.Name) && s.behind(entry) {
				all = append(all, entry)
			}
		}
		if !more || len(entries) == 0 {
			break
		}
		after = entries[len(entries)-1].Name
	}
	sort.Slice(all, func(i, j int) bool { return s.less(all[i], all[j]) })
	return all, nil
}

func (s *scan) less(a, b Entry) bool {
	if s.cfg.Order == "modified" && !a.Modified.Equal(b.Modified) {
		return a.Modified.Before(b.Modified)
	}
	return a.Name < b.Name
}

// behind reports whether the file is still to be read, in whole or in part.
func (s *scan) behind(entry Entry) bool {
	if s.place.Name == "" {
		return true
	}
	at := Entry{Name: s.place.Name, Modified: s.place.Modified}
	if entry.Name == at.Name {
		return !s.place.Done
	}
	return s.less(at, entry)
}

// file reads one file, from the position on if it was begun before.
func (s *scan) file(entry Entry) error {
	skip := int64(0)
	if s.place.Name == entry.Name && !s.place.Done {
		skip = s.place.Records
	}
	s.place = Place{Name: entry.Name, Modified: entry.Modified, Records: skip}
	s.batch, s.bytes = &record.Batch{}, 0
	err := s.records(entry, skip)
	if errors.Is(err, backend.ErrInvalid) && s.ctx.Err() == nil {
		// The rest of the file cannot be read: the pipeline's error policy applies.
		failed := record.New(fmt.Appendf(nil, `{"file":%s}`, strconv.Quote(entry.Name)))
		failed.Origin = s.origin()
		s.batch.Failed = append(s.batch.Failed, record.Failed{Record: failed, Err: fmt.Errorf("file %s: %w", entry.Name, err)})
		err = nil
	}
	if err != nil {
		return fmt.Errorf("file %s: %w", entry.Name, err)
	}
	s.place.Done = true
	return s.flush()
}

func (s *scan) records(entry Entry, skip int64) (err error) {
	f, err := s.store.Open(s.ctx, entry)
	if errors.Is(err, backend.ErrNotFound) {
		return nil // removed after it was listed
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	yield := func(r record.Record) error {
		r.Origin, r.Time = s.origin(), entry.Modified
		s.place.Records++
		s.batch.Records = append(s.batch.Records, r)
		return s.added(int64(r.Len()))
	}
	bad := func(value []byte, cause error) error {
		r := record.New(value)
		r.Origin, r.Time = s.origin(), entry.Modified
		s.place.Records++
		s.batch.Failed = append(s.batch.Failed, record.Failed{Record: r, Err: fmt.Errorf("file %s: %w", entry.Name, cause)})
		return s.added(int64(len(value)))
	}
	if random, ok := s.env.Codec.(codec.FileCodec); ok {
		return random.ScanAt(s.ctx, f, entry.Size, skip, s.limit, yield, bad)
	}
	r, err := decompress(f, entry.Name, s.cfg.Compression)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return s.env.Codec.Scan(s.ctx, r, s.limit,
		func(r record.Record) error {
			if skip > 0 {
				skip--
				return nil
			}
			return yield(r)
		},
		func(value []byte, cause error) error {
			if skip > 0 {
				skip--
				return nil
			}
			return bad(value, cause)
		})
}

func (s *scan) origin() string { return s.place.Name + "@" + strconv.FormatInt(s.place.Records, 10) }

// added passes the batch on when it is full.
func (s *scan) added(size int64) error {
	s.bytes += size
	count, limit := s.env.Batching.Count, s.env.Batching.Bytes
	if count <= 0 {
		count = 1000
	}
	if limit <= 0 {
		limit = 4 << 20
	}
	if len(s.batch.Records)+len(s.batch.Failed) < count && s.bytes < limit {
		return nil
	}
	return s.flush()
}

// flush passes the batch on, also an empty one at the end of a file, because its position must be acknowledged
// too.
func (s *scan) flush() error {
	s.batch.Position = s.place
	select {
	case s.out <- result{batch: s.batch}:
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
	s.batch, s.bytes = &record.Batch{Records: make([]record.Record, 0, len(s.batch.Records))}, 0
	return nil
}
