// SPDX-License-Identifier: Apache-2.0

// Package s3 reads and writes objects of an S3-compatible store.
package s3

import (
	"context"
	"fmt"
	"strings"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/s3"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connector"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connectors/internal/files"
)

// Bucket of the objects.
type Bucket struct {
	Bucket string `json:"bucket" jsonschema:"required,minLength=3,maxLength=63,pattern=^[a-z0-9][a-z0-9.-]+[a-z0-9]$,description=The bucket's name."`
}

// SourceConfig of the source.
type SourceConfig struct {
	Bucket
	Prefix string `json:"prefix,omitempty" jsonschema:"maxLength=512,description=Only objects whose keys begin with this; the pattern applies to the whole key."`
	files.SourceConfig
}

// SinkConfig of the sink.
type SinkConfig struct {
	Bucket
	files.SinkConfig
}

// Source describes the connector.
func Source() connector.Spec {
	return connector.SourceOf(connector.Spec{
		Type:    "s3",
		Summary: "Reads the objects of a bucket in the order of their keys, once or watching for more, and stores its position in the bucket.",
		Binding: "s3",
		Codec:   "json",
	}, openSource)
}

// Sink describes the connector.
func Sink() connector.Spec {
	return connector.SinkOf(connector.Spec{
		Type:    "s3",
		Summary: "Writes each batch as one object; a repeated batch replaces its own object.",
		Binding: "s3",
		Codec:   "json",
	}, openSink)
}

func openStore(ctx context.Context, bucket, prefix string, b backend.Binding) (*store, error) {
	client, err := s3.Client(b)
	if err != nil {
		return nil, err
	}
	s := &store{client: client, bucket: bucket, prefix: prefix, binding: b}
	exists, err := client.BucketExists(ctx, bucket)
	if err != nil {
		return nil, s.error("look up the bucket", err)
	}
	if !exists {
		return nil, fmt.Errorf("bucket %q: %w", bucket, backend.ErrNotFound)
	}
	return s, nil
}

func openSource(ctx context.Context, cfg SourceConfig, env connector.Env) (connector.Source, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if strings.HasPrefix(cfg.Prefix, "/") {
		return nil, fmt.Errorf("config.prefix: keys do not start with a slash: %w", backend.ErrInvalid)
	}
	store, err := openStore(ctx, cfg.Bucket.Bucket, cfg.Prefix, env.Binding)
	if err != nil {
		return nil, err
	}
	return files.OpenSource(ctx, cfg.SourceConfig, store, env)
}

func openSink(ctx context.Context, cfg SinkConfig, env connector.Env) (connector.Sink, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	store, err := openStore(ctx, cfg.Bucket.Bucket, "", env.Binding)
	if err != nil {
		return nil, err
	}
	return files.OpenSink(cfg.SinkConfig, store, env), nil
}
