// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/dataflow/internal/codec"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connector"
	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

// SourceConfig of the source.
type SourceConfig struct {
	Request
	Method     string          `json:"method,omitempty" jsonschema:"default=GET,enum=GET,enum=POST,description=Method of the request."`
	Body       string          `json:"body,omitempty" jsonschema:"description=Body of the request."`
	Records    string          `json:"records,omitempty" jsonschema:"description=Path of the records in a JSON response (data.items): an array or one object; the whole response when not given."`
	Pagination *Pagination     `json:"pagination,omitempty" jsonschema:"description=How to get further pages; one page when not given."`
	Watch      *bool           `json:"watch,omitempty" jsonschema:"default=true,description=Poll again after interval; otherwise the source finishes after the last page."`
	Interval   config.Duration `json:"interval,omitempty" jsonschema:"default=1m,description=How long to wait after the last page."`
	MaxBytes   int64           `json:"maxBytes,omitempty" jsonschema:"default=33554432,minimum=1024,maximum=1073741824,description=The largest response that is read."`
}

// Pagination describes how one page leads to the next.
type Pagination struct {
	Type      string `json:"type" jsonschema:"required,enum=link,enum=cursor,enum=page,description=link: the header Link with rel=next; cursor: a value or URL in the answer; page: a number that counts up until a page is empty."`
	Path      string `json:"path,omitempty" jsonschema:"description=For cursor: path of the value in the answer (meta.next). A URL is followed when no parameter is given. No value ends the pages."`
	Parameter string `json:"parameter,omitempty" jsonschema:"description=The query parameter that carries the cursor or the page number."`
	First     int    `json:"first,omitempty" jsonschema:"default=1,description=For page: number of the first page."`
	Keep      bool   `json:"keep,omitempty" jsonschema:"default=false,description=For cursor: when watching continue from the last cursor rather than from the beginning. The cursor is lost when the worker restarts."`
}

// Source describes the connector.
func Source() connector.Spec {
	return connector.SourceOf(connector.Spec{
		Type:            "http",
		Summary:         "Polls an HTTP API page by page; it starts at the first page each time the worker starts.",
		Binding:         "http",
		BindingOptional: true,
		Codec:           "json",
	}, openSource)
}

type source struct {
	cfg    SourceConfig
	env    connector.Env
	client *client
	watch  bool

	at      *url.URL // the next page; nil: wait, then start over
	from    *url.URL // where a poll starts
	page    int
	records int64 // so far, for the origins
}

func openSource(ctx context.Context, cfg SourceConfig, env connector.Env) (connector.Source, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	client, err := newClient(cfg.Request, env.Binding)
	if err != nil {
		return nil, err
	}
	if _, isFile := env.Codec.(codec.FileCodec); isFile {
		return nil, fmt.Errorf("codec.format: this format needs files: %w", backend.ErrInvalid)
	}
	s := &source{cfg: cfg, env: env, client: client, watch: cfg.Watch == nil || *cfg.Watch}
	s.from = s.first()
	s.at = s.from
	return s, ctx.Err()
}

func (c *SourceConfig) check() error {
	if c.Method == "" {
		c.Method = http.MethodGet
	}
	if c.Interval <= 0 {
		c.Interval = config.Duration(time.Minute)
	}
	if c.MaxBytes <= 0 {
		c.MaxBytes = 32 << 20
	}
	switch p := c.Pagination; {
	case p == nil:
	case p.Type == "cursor" && p.Path == "":
		return fmt.Errorf("config.pagination.path: needed for type cursor: %w", backend.ErrInvalid)
	case p.Type == "page" && p.Parameter == "":
		return fmt.Errorf("config.pagination.parameter: needed for type page: %w", backend.ErrInvalid)
	}
	return nil
}

func (s *source) first() *url.URL {
	if p := s.cfg.Pagination; p != nil && p.Type == "page" {
		s.page = p.First
		if p.First == 0 {
			s.page = 1
		}
		return s.with(p.Parameter, strconv.Itoa(s.page))
	}
	return s.client.base
}

func (s *source) with(parameter, value string) *url.URL {
	at := *s.client.base
	query := at.Query()
	query.Set(parameter, value)
	at.RawQuery = query.Encode()
	return &at
}

// Read fetches pages until one has records.
func (s *source) Read(ctx context.Context) (*record.Batch, error) {
	for {
		if s.at == nil {
			if !s.watch {
				return nil, connector.ErrFinished
			}
			if err := wait(ctx, time.Duration(s.cfg.Interval)); err != nil {
				return nil, err
			}
			s.at = s.from
			if p := s.cfg.Pagination; p != nil && p.Type == "page" {
				s.at = s.first()
			}
		}
		batch, err := s.fetch(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, err
		}
		if len(batch.Records)+len(batch.Failed) > 0 {
			return batch, nil
		}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *source) fetch(ctx context.Context) (*record.Batch, error) {
	var body []byte
	if s.cfg.Body != "" {
		body = []byte(s.cfg.Body)
	}
	data, header, err := s.client.do(ctx, s.cfg.Method, s.at, body, http.Header{"Accept": {"application/json, */*;q=0.5"}}, s.cfg.MaxBytes)
	if err != nil {
		return nil, err
	}
	batch, err := s.parse(ctx, data)
	if err != nil {
		return nil, err
	}
	next, err := s.next(data, header, len(batch.Records)+len(batch.Failed))
	if err != nil {
		return nil, err
	}
	s.at = next
	return batch, nil
}

// parse takes the records at the path from a JSON response, and leaves everything else to the codec.
func (s *source) parse(ctx context.Context, data []byte) (*record.Batch, error) {
	batch := &record.Batch{Position: struct{}{}}
	now := time.Now().UTC()
	origin := func() string {
		s.records++
		return s.client.base.Host + s.client.base.Path + "@" + strconv.FormatInt(s.records, 10)
	}
	yield := func(r record.Record) error {
		r.Origin, r.Time = origin(), now
		batch.Records = append(batch.Records, r)
		return nil
	}
	bad := func(value []byte, cause error) error {
		r := record.New(value)
		r.Origin, r.Time = origin(), now
		batch.Failed = append(batch.Failed, record.Failed{Record: r, Err: cause})
		return nil
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return batch, nil
	}
	isJSON := s.env.Codec.Extension() == ".jsonl"
	if s.cfg.Records == "" && (!isJSON || codec.CheckJSON(data) != nil) {
		if err := s.env.Codec.Scan(ctx, bytes.NewReader(data), s.limit(), yield, bad); err != nil {
			return nil, s.client.failed("read the response", backend.ErrUnavailable, err)
		}
		return batch, nil
	}
	if err := codec.CheckJSON(data); err != nil {
		// Most likely an error page: a retry may bring data.
		return nil, s.client.failed("read the response", backend.ErrUnavailable, errors.New("it is not valid JSON"))
	}
	found := gjson.ParseBytes(data)
	if s.cfg.Records != "" {
		found = found.Get(s.cfg.Records)
	}
	switch {
	case found.IsArray():
		found.ForEach(func(_, item gjson.Result) bool {
			if int64(len(item.Raw)) > s.limit() {
				_ = bad(nil, codec.ErrTooLarge)
			} else {
				_ = yield(record.New([]byte(item.Raw)))
			}
			return true
		})
	case found.IsObject():
		_ = yield(record.New([]byte(found.Raw)))
	case found.Exists() && found.Type != gjson.Null:
		return nil, s.client.failed("read the response", backend.ErrUnavailable, fmt.Errorf("config.records: %q is neither an array nor an object", s.cfg.Records))
	}
	return batch, nil
}

func (s *source) limit() int64 {
	if s.env.MaxRecordBytes > 0 {
		return s.env.MaxRecordBytes
	}
	return s.cfg.MaxBytes
}

var nextLink = regexp.MustCompile(`<([^>]*)>[^,]*;\s*rel="?([^",;]*\s)?next\b`)

// next returns the next page; nil after the last.
func (s *source) next(data []byte, header http.Header, count int) (*url.URL, error) {
	p := s.cfg.Pagination
	if p == nil {
		return nil, nil
	}
	switch p.Type {
	case "page":
		if count == 0 {
			return nil, nil
		}
		s.page++
		return s.with(p.Parameter, strconv.Itoa(s.page)), nil
	case "link":
		match := nextLink.FindStringSubmatch(strings.Join(header.Values("Link"), ", "))
		if match == nil {
			return nil, nil
		}
		return s.follow(match[1])
	}
	value := gjson.GetBytes(data, p.Path)
	cursor := value.String()
	if cursor == "" || value.Type == gjson.False {
		return nil, nil
	}
	var at *url.URL
	var err error
	if p.Parameter == "" {
		at, err = s.follow(cursor)
	} else {
		at = s.with(p.Parameter, cursor)
	}
	if err != nil {
		return nil, err
	}
	same := at.String() == s.at.String()
	if p.Keep {
		s.from = at
	}
	if same || (p.Keep && count == 0) {
		return nil, nil // no more for now
	}
	return at, nil
}

// follow resolves a link, which must stay on the host because credentials are sent along.
func (s *source) follow(link string) (*url.URL, error) {
	parsed, err := s.at.Parse(link)
	if err != nil || !sameHost(parsed, s.client.base) {
		return nil, s.client.failed("find the next page", backend.ErrAuth, errors.New("the link leads to another host"))
	}
	return parsed, nil
}

// Ack does nothing: an API stores no position for us.
func (s *source) Ack(context.Context, []*record.Batch) error { return nil }

// Close ends idle connections.
func (s *source) Close(context.Context) error {
	s.client.http.HTTPClient.CloseIdleConnections()
	return nil
}
