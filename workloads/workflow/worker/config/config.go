// SPDX-License-Identifier: Apache-2.0

// Package config is the contract between the controllers, which render two files, and their readers: the step worker reads both,
// the Workflow service only the second one. It is plain Go, without Kubernetes types.
package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/itechsmart/operator/workloads/config"
)

const (
	// FileName is the worker's own file in Dir, one per Platform. Workers are restarted when it changes.
	FileName = "worker.json"
	// Dir is the mount path of the worker's file.
	Dir = "/etc/itechsmart"
	// BindingsName is the file in BindingsDir with the connections of the namespace's Workflows. It changes while the worker and the
	// service run. A missing file means no connections.
	BindingsName = "bindings.json"
	// BindingsDir is the mount path of the bindings.
	BindingsDir = "/etc/itechsmart-bindings"
	// Port serves LivePath (the process alone) and ReadyPath (queue and database); MetricsPort serves /metrics.
	Port        = config.Port
	MetricsPort = config.MetricsPort
	LivePath    = config.LivePath
	ReadyPath   = config.ReadyPath
)

// Worker is the configuration of a step worker.
type Worker struct {
	Platform  string `json:"platform"`
	Namespace string `json:"namespace"`
	// Database is the schema of the Workflow service.
	Database config.Database `json:"database"`
	// Queue is the binding of RabbitMQ. QueueName is the name of the task queue.
	Queue     map[string]string `json:"queue"`
	QueueName string            `json:"queueName"`
	// Objects is the binding of the bucket for large payloads, if there is one.
	Objects map[string]string `json:"objects,omitempty"`
	// Slots is the number of steps that run concurrently; the default is 100.
	Slots int `json:"slots,omitempty"`
	// MaxOutputBytes bounds a step's output; the default is 256 KiB.
	MaxOutputBytes int `json:"maxOutputBytes,omitempty"`
	// PrivateCIDRs are non-public addresses that http steps may reach.
	PrivateCIDRs []string `json:"privateCIDRs,omitempty"`
	LogLevel     string   `json:"logLevel,omitempty"` // debug, info, warn, error
}

// Bindings has the connections of one Platform's Workflows, by name of the Workflow.
type Bindings struct {
	// Shared means that the namespace has other Platforms: a Workflow without a reference then belongs to none.
	Shared    bool                        `json:"shared,omitempty"`
	Workflows map[string]WorkflowBindings `json:"workflows,omitempty"`
}

// WorkflowBindings has the connections of one Workflow.
type WorkflowBindings struct {
	// Connections are Service Bindings by name of the connection.
	Connections map[string]map[string]string `json:"connections,omitempty"`
	// HMAC are the keys of webhooks by name of the trigger.
	HMAC map[string][]byte `json:"hmac,omitempty"`
}

// Load reads the worker's file in dir. It also returns the paths of unknown keys, so that an older image starts with the file of a
// newer manager.
func Load(dir string) (w *Worker, unknown []string, err error) {
	w = &Worker{}
	if unknown, err = read(filepath.Join(dir, FileName), w); err != nil {
		return nil, nil, err
	}
	return w, unknown, nil
}

// LoadBindings reads the bindings in dir. Like Load, it returns the paths of unknown keys. Without a file, the bindings are empty.
func LoadBindings(dir string) (b *Bindings, unknown []string, err error) {
	b = &Bindings{}
	unknown, err = read(filepath.Join(dir, BindingsName), b)
	if errors.Is(err, os.ErrNotExist) {
		return &Bindings{}, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	return b, unknown, nil
}

func read(path string, into any) (unknown []string, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if unknown, err = config.Decode(data, into); err != nil {
		return nil, fmt.Errorf("parse %s: %w", filepath.Base(path), err)
	}
	return unknown, nil
}
