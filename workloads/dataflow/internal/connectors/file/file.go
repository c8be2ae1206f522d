// SPDX-License-Identifier: Apache-2.0

// Package file reads and writes files of a mounted volume.
package file

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connector"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connectors/internal/files"
)

// RootVariable names the directory that holds the volumes; nothing outside it is read or written, because a
// worker's file system also holds its credentials.
const RootVariable = "ITECHSMART_FILES_ROOT"

const defaultRoot = "/data"

// SourceConfig of the source.
type SourceConfig struct {
	Directory      string `json:"directory" jsonschema:"required,minLength=1,description=Where the files are: a path below the worker's directory of volumes (/data)."`
	StateDirectory string `json:"stateDirectory,omitempty" jsonschema:"description=Where the position in the files is stored; directory itself when not given; needed when that is read-only."`
	files.SourceConfig
}

// SinkConfig of the sink.
type SinkConfig struct {
	Directory string `json:"directory" jsonschema:"required,minLength=1,description=Where the files go: a path below the worker's directory of volumes (/data); it is created when it does not exist."`
	files.SinkConfig
}

// Source describes the connector.
func Source() connector.Spec {
	return connector.SourceOf(connector.Spec{
		Type:    "file",
		Summary: "Reads files of a mounted volume in order, once or watching for more, and stores its position beside them.",
		Codec:   "json",
	}, openSource)
}

// Sink describes the connector.
func Sink() connector.Spec {
	return connector.SinkOf(connector.Spec{
		Type:    "file",
		Summary: "Writes each batch as one file to a mounted volume; files appear only when complete.",
		Codec:   "json",
	}, openSink)
}

func root() string {
	if dir := os.Getenv(RootVariable); dir != "" {
		return dir
	}
	return defaultRoot
}

// below opens the directory that a config names. The root confines it: neither .. nor a symbolic link leads out
// of it.
func below(field, directory string, create bool) (*os.Root, error) {
	volumes, err := os.OpenRoot(root())
	if err != nil {
		return nil, fmt.Errorf("open the directory of volumes: %w: %w", err, backend.ErrUnavailable)
	}
	defer volumes.Close() //nolint:errcheck // nothing was written through it
	name, err := relative(field, directory)
	if err != nil {
		return nil, err
	}
	if create {
		if err := volumes.MkdirAll(name, 0o755); err != nil {
			return nil, fmt.Errorf("config.%s: %w: %w", field, err, backend.ErrUnavailable)
		}
	}
	opened, err := volumes.OpenRoot(name)
	if err != nil {
		return nil, fmt.Errorf("config.%s: %w: %w", field, err, backend.ErrUnavailable)
	}
	return opened, nil
}

// relative returns the directory relative to the root; a full path below the root is accepted too.
func relative(field, directory string) (string, error) {
	name := filepath.Clean(directory)
	if filepath.IsAbs(name) {
		below, err := filepath.Rel(root(), name)
		if err != nil {
			return "", fmt.Errorf("config.%s: %w: %w", field, err, backend.ErrInvalid)
		}
		name = below
	}
	if !filepath.IsLocal(name) {
		return "", fmt.Errorf("config.%s: %q is not below %s: %w", field, directory, root(), backend.ErrInvalid)
	}
	return name, nil
}

func openSource(ctx context.Context, cfg SourceConfig, env connector.Env) (connector.Source, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	dir, err := below("directory", cfg.Directory, false)
	if err != nil {
		return nil, err
	}
	store := &store{dir: dir, state: dir}
	if cfg.StateDirectory != "" {
		if store.state, err = below("stateDirectory", cfg.StateDirectory, true); err != nil {
			_ = dir.Close()
			return nil, err
		}
	}
	return files.OpenSource(ctx, cfg.SourceConfig, store, env)
}

func openSink(_ context.Context, cfg SinkConfig, env connector.Env) (connector.Sink, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	dir, err := below("directory", cfg.Directory, true)
	if err != nil {
		return nil, err
	}
	return files.OpenSink(cfg.SinkConfig, &store{dir: dir, state: dir}, env), nil
}
