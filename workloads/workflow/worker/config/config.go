// SPDX-License-Identifier: Apache-2.0

// Package config is the contract between the controllers, which render two
// files, and who reads them: the step worker, and for the second one the
// Workflow service as well. It is plain Go: no Kubernetes type appears here.
package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/itechsmart/operator/workloads/config"
)

const (
	// FileName is the worker's own file in Dir, rendered once per Platform: another content takes another worker.
	FileName = "worker.json"
	// Dir is where the worker's file is mounted.
	Dir = "/etc/itechsmart"
	// BindingsName is the file in BindingsDir that holds what the Workflows of the namespace name. It changes while the
	// worker and the service run, and may be missing: then there are no connections.
	BindingsName = "bindings.json"
	// BindingsDir is where it is mounted.
	BindingsDir = "/etc/itechsmart-bindings"
	// Port answers LivePath for the process and ReadyPath for queue and database; MetricsPort serves /metrics.
	Port        = config.Port
	MetricsPort = config.MetricsPort
	LivePath    = config.LivePath
	ReadyPath   = config.ReadyPath
)

// Worker is everything that a step worker is told.
type Worker struct {
	Platform  string `json:"platform"`
	Namespace string `json:"namespace"`
	// Database is the schema of the Workflow service.
	Database config.Database `json:"database"`
	// Queue is the binding of RabbitMQ; QueueName the queue of tasks.
	Queue     map[string]string `json:"queue"`
	QueueName string            `json:"queueName"`
	// Objects is the binding of the bucket that large payloads go to; nil: there is none.
	Objects map[string]string `json:"objects,omitempty"`
	// Slots is how many steps run at a time; 100 when zero.
	Slots int `json:"slots,omitempty"`
	// MaxOutputBytes bounds a step's output; 256 KiB when zero.
	MaxOutputBytes int `json:"maxOutputBytes,omitempty"`
	// PrivateCIDRs are addresses that http steps may reach although they are no public ones.
	PrivateCIDRs []string `json:"privateCIDRs,omitempty"`
	LogLevel     string   `json:"logLevel,omitempty"` // debug, info, warn, error
}

// Bindings is what the Workflows of one Platform name, by the Workflow's name.
type Bindings struct {
	// Shared: the namespace has other Platforms as well, so that a Workflow which names none is nobody's.
	Shared    bool                        `json:"shared,omitempty"`
	Workflows map[string]WorkflowBindings `json:"workflows,omitempty"`
}

// WorkflowBindings is what one Workflow names.
type WorkflowBindings struct {
	// Connections are Service Bindings by the connection's name.
	Connections map[string]map[string]string `json:"connections,omitempty"`
	// HMAC are the keys of webhooks by the trigger's name.
	HMAC map[string][]byte `json:"hmac,omitempty"`
}

// Load reads the worker's file in dir, and refuses unknown keys and what comes after the object.
func Load(dir string) (*Worker, error) {
	w := &Worker{}
	return w, read(filepath.Join(dir, FileName), w)
}

// LoadBindings reads the bindings in dir; empty when there is no file.
func LoadBindings(dir string) (*Bindings, error) {
	b := &Bindings{}
	err := read(filepath.Join(dir, BindingsName), b)
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return b, err
}

func read(path string, into any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return fmt.Errorf("parse %s: %w", filepath.Base(path), err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("parse %s: there is something after the configuration", filepath.Base(path))
	}
	return nil
}
