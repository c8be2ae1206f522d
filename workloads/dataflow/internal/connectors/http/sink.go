// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/dataflow/internal/codec"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connector"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connectors/internal/batchid"
	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
)

// SinkConfig of the sink.
type SinkConfig struct {
	Request
	Method      string `json:"method,omitempty" jsonschema:"default=POST,enum=POST,enum=PUT,enum=PATCH,description=Method of the requests."`
	Layout      string `json:"layout,omitempty" jsonschema:"default=lines,enum=lines,enum=array,enum=single,description=What one request holds: the batch in the codec's format (JSON lines); the batch as one JSON array; or one record."`
	ContentType string `json:"contentType,omitempty" jsonschema:"description=Header Content-Type; by the layout when not given."`
	Compression string `json:"compression,omitempty" jsonschema:"default=none,enum=none,enum=gzip,description=Compression of the requests."`
}

// Sink describes the connector.
func Sink() connector.Spec {
	return connector.SinkOf(connector.Spec{
		Type:            "http",
		Summary:         "Sends each batch, or each record, as an HTTP request with an Idempotency-Key by which a receiver can drop duplicates.",
		Binding:         "http",
		BindingOptional: true,
		Codec:           "json",
	}, openSink)
}

type sink struct {
	cfg    SinkConfig
	codec  codec.Codec
	client *client
	names  *batchid.Namer
}

func openSink(ctx context.Context, cfg SinkConfig, env connector.Env) (connector.Sink, error) {
	client, err := newClient(cfg.Request, env.Binding)
	if err != nil {
		return nil, err
	}
	if cfg.Method == "" {
		cfg.Method = http.MethodPost
	}
	return &sink{cfg: cfg, codec: env.Codec, client: client, names: batchid.New()}, ctx.Err()
}

// Write sends the batch; nil means that the receiver accepted it with a 2xx response.
func (s *sink) Write(ctx context.Context, batch *record.Batch) error {
	refused := &record.Errors{}
	if s.cfg.Layout == "single" {
		return s.singly(ctx, batch, refused)
	}
	body, err := s.encode(batch, refused)
	if err != nil {
		return err
	}
	if len(refused.ByIndex) < batch.Len() {
		if err := s.send(ctx, batch, body); err != nil {
			return err
		}
	}
	s.names.Done()
	return refused.OrNil()
}

// singly sends one request per record. A record that an earlier attempt delivered has the same key again.
func (s *sink) singly(ctx context.Context, batch *record.Batch, refused *record.Errors) error {
	for i := range batch.Records {
		one := &record.Batch{Records: batch.Records[i : i+1 : i+1]}
		failed := &record.Errors{}
		body, err := s.encode(one, failed)
		if err == nil && len(failed.ByIndex) > 0 {
			err = failed.ByIndex[0]
		}
		if err == nil {
			err = s.send(ctx, one, body)
		}
		switch {
		case errors.Is(err, backend.ErrInvalid):
			refused.Add(i, err)
		case err != nil:
			return err
		}
	}
	s.names.Done()
	return refused.OrNil()
}

func (s *sink) encode(batch *record.Batch, refused *record.Errors) ([]byte, error) {
	var body bytes.Buffer
	write, end := s.writer(&body)
	for i := range batch.Records {
		r := batch.Records[i] // a copy: the batch goes to other sinks too
		if err := write(&r); err != nil {
			if !errors.Is(err, backend.ErrInvalid) {
				return nil, fmt.Errorf("encode a record: %w", err)
			}
			refused.Add(i, err)
		}
	}
	if err := end(); err != nil {
		return nil, fmt.Errorf("encode the batch: %w", err)
	}
	return body.Bytes(), nil
}

func (s *sink) writer(body *bytes.Buffer) (write func(*record.Record) error, end func() error) {
	switch s.cfg.Layout {
	case "array":
		body.WriteByte('[')
		first := true
		return func(r *record.Record) error {
				line, err := codec.AppendLine(nil, r)
				if err != nil {
					return err
				}
				if !first {
					body.WriteByte(',')
				}
				first = false
				body.Write(line[:len(line)-1])
				return nil
			}, func() error {
				body.WriteByte(']')
				return nil
			}
	case "single":
		return func(r *record.Record) error {
			data, err := s.codec.Marshal(nil, r)
			if err == nil && s.codec.Extension() == ".jsonl" {
				err = codec.CheckJSON(data)
			}
			body.Write(data)
			return err
		}, func() error { return nil }
	}
	w := s.codec.Writer(body)
	return w.Write, w.Close
}

// contentTypes maps the codec's file extension to the types for the layouts lines and single.
var contentTypes = map[string][2]string{
	".jsonl": {"application/x-ndjson", "application/json"}, ".csv": {"text/csv", "text/csv"},
	".txt": {"text/plain; charset=utf-8", "application/octet-stream"}, ".parquet": {"application/vnd.apache.parquet", "application/vnd.apache.parquet"},
}

func (s *sink) contentType() string {
	types := contentTypes[s.codec.Extension()]
	switch {
	case s.cfg.ContentType != "":
		return s.cfg.ContentType
	case s.cfg.Layout == "array":
		return "application/json"
	case s.cfg.Layout == "single":
		return types[1]
	default:
		return types[0]
	}
}

func (s *sink) send(ctx context.Context, batch *record.Batch, body []byte) error {
	header := http.Header{
		"Content-Type":    {s.contentType()},
		"Idempotency-Key": {s.names.ID(batch, body)},
	}
	if s.cfg.Compression == "gzip" {
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		if _, err := io.Copy(w, bytes.NewReader(body)); err != nil {
			return fmt.Errorf("compress a batch: %w", err)
		}
		if err := w.Close(); err != nil {
			return fmt.Errorf("compress a batch: %w", err)
		}
		body = packed.Bytes()
		header.Set("Content-Encoding", "gzip")
	}
	_, _, err := s.client.do(ctx, s.cfg.Method, s.client.base, body, header, 0)
	return err
}

// Close ends idle connections.
func (s *sink) Close(context.Context) error {
	s.client.http.HTTPClient.CloseIdleConnections()
	return nil
}
