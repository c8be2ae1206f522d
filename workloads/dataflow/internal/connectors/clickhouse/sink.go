// SPDX-License-Identifier: Apache-2.0

package clickhouse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pierrec/lz4/v4"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/dataflow/internal/codec"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connector"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connectors/internal/batchid"
	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
)

// sink sends each batch as one INSERT in the format JSONEachRow over ClickHouse's HTTP interface: records that
// came in as JSON are sent as the same bytes, and the server parses them.
type sink struct {
	cfg      Config
	binding  backend.Binding
	client   *http.Client
	base     url.URL
	settings url.Values

	names  *batchid.Namer
	body   []byte // reused between writes
	packed bytes.Buffer
}

func open(ctx context.Context, cfg Config, env connector.Env) (connector.Sink, error) {
	b := env.Binding
	if err := b.Require("host"); err != nil {
		return nil, err
	}
	tlsConfig, err := b.TLSConfig()
	if err != nil {
		return nil, err
	}
	if cfg.Database == "" {
		cfg.Database = "default"
	}
	s := &sink{cfg: cfg, binding: b, settings: insertSettings(cfg), names: batchid.New()}
	s.client = &http.Client{Transport: &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:     tlsConfig,
		TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConnsPerHost: 2,
		IdleConnTimeout:     30 * time.Second, // the server's own keep-alive may be shorter; a retry covers it
		WriteBufferSize:     256 << 10,
		DisableCompression:  true,
	}}
	s.base = url.URL{Scheme: "http", Host: net.JoinHostPort(b.Host, httpPort(b)), Path: "/"}
	if tlsConfig != nil {
		s.base.Scheme = "https"
	}
	if err := s.checkTable(ctx); err != nil {
		s.client.CloseIdleConnections()
		return nil, err
	}
	return s, nil
}

// httpPort returns the port of the HTTP interface: key http-port if there is one, else port.
func httpPort(b backend.Binding) string {
	if port := b.Extra["http-port"]; port != "" {
		return port
	}
	if b.Port != "" {
		return b.Port
	}
	if b.TLS == "true" {
		return "8443"
	}
	return "8123"
}

func insertSettings(cfg Config) url.Values {
	flag := func(on bool) string {
		if on {
			return "1"
		}
		return "0"
	}
	return url.Values{
		"date_time_input_format":           {"best_effort"},
		"input_format_skip_unknown_fields": {flag(cfg.UnknownFields != "Fail")},
		"input_format_null_as_default":     {"1"},
		"input_format_allow_errors_num":    {"0"},
		"async_insert":                     {flag(cfg.AsyncInsert)},
		"wait_for_async_insert":            {"1"},
		"async_insert_deduplicate":         {"1"},
		"insert_deduplicate":               {"1"},
		"wait_end_of_query":                {"1"},
		"query":                            {fmt.Sprintf("INSERT INTO `%s`.`%s` FORMAT JSONEachRow", cfg.Database, cfg.Table)},
	}
}

func (s *sink) checkTable(ctx context.Context) error {
	op := fmt.Sprintf("look up table %s.%s", s.cfg.Database, s.cfg.Table)
	query := fmt.Sprintf("EXISTS TABLE `%s`.`%s`", s.cfg.Database, s.cfg.Table)
	answer, err := s.post(ctx, op, url.Values{"query": {query}, "default_format": {"TabSeparated"}}, nil, "")
	if err != nil {
		return err
	}
	if strings.TrimSpace(answer) != "1" {
		return s.binding.Error(op, backend.ErrNotFound, errors.New("create it, or set config.create to true with config.columns and config.orderBy"))
	}
	return nil
}

// post sends one request and returns the start of the response.
func (s *sink) post(ctx context.Context, op string, parameters url.Values, body []byte, encoding string) (string, error) {
	target := s.base
	target.RawQuery = parameters.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(body))
	if err != nil {
		return "", s.binding.Error(op, backend.ErrInvalid, err)
	}
	if s.binding.Username != "" {
		request.Header.Set("X-ClickHouse-User", s.binding.Username)
		request.Header.Set("X-ClickHouse-Key", s.binding.Password)
	}
	if encoding != "" {
		request.Header.Set("Content-Encoding", encoding)
	}
	response, err := s.client.Do(request)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // the URL is long and adds nothing
		}
		return "", s.binding.Error(op, nil, err)
	}
	defer func() {
		_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, maxErrorBytes))
		_ = response.Body.Close()
	}()
	if response.StatusCode != http.StatusOK || response.Header.Get("X-ClickHouse-Exception-Code") != "" {
		return "", exceptionOf(op, s.binding, response)
	}
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxErrorBytes))
	if err != nil {
		return "", s.binding.Error(op, nil, err)
	}
	return string(answer), nil
}

// Write inserts the batch. Records that are not JSON objects are refused here, because among rows of
// JSONEachRow they could swallow or forge their neighbours; all others are durable then.
func (s *sink) Write(ctx context.Context, batch *record.Batch) error {
	refused := s.encode(batch)
	if len(s.body) > 0 {
		if err := s.insert(ctx, batch); err != nil {
			return err
		}
	}
	s.names.Done()
	return refused.OrNil()
}

// maxIdleBody is the largest buffer that is kept between writes.
const maxIdleBody = 64 << 20

func (s *sink) encode(batch *record.Batch) *record.Errors {
	if cap(s.body) > maxIdleBody {
		s.body = nil
	}
	s.body = s.body[:0]
	refused := &record.Errors{}
	for i := range batch.Records {
		start := len(s.body)
		body, err := codec.AppendLine(s.body, &batch.Records[i])
		if err == nil && !isObject(body[start:]) {
			err = fmt.Errorf("value is not a JSON object: %w", backend.ErrInvalid)
		}
		if err != nil {
			s.body = body[:start]
			refused.Add(i, err)
			continue
		}
		s.body = body
	}
	return refused
}

func isObject(line []byte) bool {
	line = bytes.TrimLeft(line, " \t\r\n")
	return len(line) > 0 && line[0] == '{'
}

func (s *sink) insert(ctx context.Context, batch *record.Batch) error {
	parameters := make(url.Values, len(s.settings)+1)
	for key, value := range s.settings {
		parameters[key] = value
	}
	// The server deduplicates a batch that is sent again.
	parameters.Set("insert_deduplication_token", s.names.ID(batch, s.body))
	body, encoding := s.body, ""
	if s.cfg.Compression == "lz4" {
		s.packed.Reset()
		w := lz4.NewWriter(&s.packed)
		if _, err := w.Write(body); err != nil {
			return fmt.Errorf("compress a batch: %w", err)
		}
		if err := w.Close(); err != nil {
			return fmt.Errorf("compress a batch: %w", err)
		}
		body, encoding = s.packed.Bytes(), "lz4"
	}
	_, err := s.post(ctx, fmt.Sprintf("insert into %s.%s", s.cfg.Database, s.cfg.Table), parameters, body, encoding)
	return err
}

// Close ends the connections.
func (s *sink) Close(context.Context) error {
	s.client.CloseIdleConnections()
	return nil
}
