// SPDX-License-Identifier: Apache-2.0

package config

import "time"

// The worker's HTTP port and paths. They carry no record and no credential.
const (
	Port        = 8080
	HealthPath  = "/healthz" // the process lives
	ReadyPath   = "/readyz"  // every source and sink is connected
	MetricsPath = "/metrics" // Prometheus
	StatusPath  = "/status"  // Status as JSON
)

// ComponentState is the state of a source or sink.
type ComponentState string

// The states of a component.
const (
	StateConnecting ComponentState = "Connecting"
	StateConnected  ComponentState = "Connected"
	StateRetrying   ComponentState = "Retrying"
	StateFinished   ComponentState = "Finished" // a bounded source has delivered all
	StateStopped    ComponentState = "Stopped"
)

// Status is the report of one worker. Counters start at zero with the process.
type Status struct {
	Hash       string `json:"hash"`
	Generation int64  `json:"generation"`
	// Ready: every source and sink is connected (or finished) and the engine runs.
	Ready bool `json:"ready"`
	// Draining: the worker has been told to stop and writes out what it has read.
	Draining bool `json:"draining"`
	// Finished: every source is bounded and done, and all is acknowledged.
	Finished bool    `json:"finished"`
	Records  Records `json:"records"`
	// LastError says why the pipeline makes no progress although its sources and sinks are connected,
	// such as a record that a transform with onError Fail refuses; "" when it does.
	LastError string `json:"lastError,omitempty"`
	// InPerSecond and OutPerSecond are records per second over the last ten seconds.
	InPerSecond  float64 `json:"inPerSecond"`
	OutPerSecond float64 `json:"outPerSecond"`
	// Lag is how many records wait in all sources; -1: no source can tell.
	Lag     int64       `json:"lag"`
	Sources []Component `json:"sources"`
	Sinks   []Component `json:"sinks"`
}

// Records counts records since the worker's start.
type Records struct {
	In           int64 `json:"in"`
	Out          int64 `json:"out"`
	Filtered     int64 `json:"filtered"`
	Errored      int64 `json:"errored"`
	DeadLettered int64 `json:"deadLettered"`
	BytesIn      int64 `json:"bytesIn"`
	BytesOut     int64 `json:"bytesOut"`
}

// Component is the state of one source or sink.
type Component struct {
	Name  string         `json:"name"`
	Type  string         `json:"type"`
	State ComponentState `json:"state"`
	// LastError is the last error's text without any record content or credential; it stays until the next success.
	LastError    string    `json:"lastError,omitempty"`
	LastActivity time.Time `json:"lastActivity,omitzero"`
}
