// SPDX-License-Identifier: Apache-2.0

// Package config is the contract between the Pipeline controller and the
// pipeline worker: the one file that the controller renders and the worker
// reads, and the status that the worker reports back. It is plain Go: no
// Kubernetes type appears here.
package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/itechsmart/operator/workloads/config"
)

// FileName is the name of the configuration file in its directory.
const FileName = "pipeline.json"

// Delivery says what happens to records that were read but not yet written when a worker dies.
type Delivery string

const (
	// AtLeastOnce acknowledges the source after every sink has acknowledged.
	AtLeastOnce Delivery = "AtLeastOnce"
	// AtMostOnce acknowledges the source before the sinks are written.
	AtMostOnce Delivery = "AtMostOnce"
)

// OnError says what becomes of a record that a transform or a sink cannot process.
type OnError string

const (
	// OnErrorFail stops the pipeline's progress and retries with back-off until an edit helps.
	OnErrorFail OnError = "Fail"
	// OnErrorDrop counts the record and goes on without it.
	OnErrorDrop OnError = "Drop"
	// OnErrorDeadLetter writes the record to the dead-letter sink and continues.
	OnErrorDeadLetter OnError = "DeadLetter"
)

// Pipeline is the whole configuration of one pipeline.
type Pipeline struct {
	Namespace  string `json:"namespace"`
	Name       string `json:"name"`
	Generation int64  `json:"generation"`
	// ConsumerGroup is the group under which sources keep their place.
	ConsumerGroup string      `json:"consumerGroup"`
	Delivery      Delivery    `json:"delivery"`
	Batching      Batching    `json:"batching"`
	Sources       []Source    `json:"sources"`
	Transforms    []Transform `json:"transforms,omitempty"`
	Sinks         []Sink      `json:"sinks"`
	// DeadLetter takes the records that OnErrorDeadLetter turns away; nil: there is none.
	DeadLetter *Sink `json:"deadLetter,omitempty"`
	// MaxRecordBytes is the largest record that is processed; a larger one is an error of that record.
	MaxRecordBytes int64  `json:"maxRecordBytes"`
	Tests          []Test `json:"tests,omitempty"`
	// Connections holds one Service Binding (key to value) per name that a Source or Sink refers to.
	// It is the only part that may change while a worker runs: the worker then connects again.
	Connections map[string]map[string]string `json:"connections,omitempty"`
}

// Batching bounds a batch: it is handed on when the first bound is reached.
type Batching struct {
	Count  int      `json:"count"`  // records
	Bytes  int64    `json:"bytes"`  // bytes of key and value
	Period Duration `json:"period"` // time since the batch's first record
}

// Codec turns bytes into records and back.
type Codec struct {
	// Format is json, raw, csv, … (see package codec).
	Format string `json:"format"`
	// Options are the format's own.
	Options json.RawMessage `json:"options,omitempty"`
}

// Source is one place to read from.
type Source struct {
	Name       string          `json:"name"`
	Type       string          `json:"type"`
	Connection string          `json:"connection,omitempty"`
	Config     json.RawMessage `json:"config,omitempty"`
	Codec      *Codec          `json:"codec,omitempty"`
}

// Sink is one place to write to.
type Sink struct {
	Name       string          `json:"name"`
	Type       string          `json:"type"`
	Connection string          `json:"connection,omitempty"`
	Config     json.RawMessage `json:"config,omitempty"`
	Codec      *Codec          `json:"codec,omitempty"`
	Retry      Retry           `json:"retry"`
	// OnError is for records that the sink refuses for good.
	OnError OnError `json:"onError,omitempty"`
}

// Retry is exponential back-off with jitter. MaxAttempts 0 means without end.
type Retry struct {
	Initial     Duration `json:"initial"`
	Max         Duration `json:"max"`
	MaxAttempts int      `json:"maxAttempts"`
}

// Transform is one step on every record.
type Transform struct {
	Name string `json:"name"`
	Type string `json:"type"`
	// When is a CEL expression of type bool; records for which it is false pass by untouched.
	// The transform type `filter` uses it as its predicate instead.
	When    string          `json:"when,omitempty"`
	Config  json.RawMessage `json:"config,omitempty"`
	OnError OnError         `json:"onError,omitempty"`
}

// Test is one example that gates a rollout: the transforms are run on Input
// and must give Expect, in order.
type Test struct {
	Name string `json:"name"`
	// Input are records' values, JSON each.
	Input []json.RawMessage `json:"input"`
	// Expect are the values that the sinks would get, JSON each, compared as JSON values.
	Expect []json.RawMessage `json:"expect"`
	// ExpectErrors is how many records must have failed.
	ExpectErrors int `json:"expectErrors,omitempty"`
}

// Duration is a time.Duration that JSON writes as "1.5s".
type Duration time.Duration

// MarshalJSON writes Go's notation.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// UnmarshalJSON reads Go's notation.
func (d *Duration) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return fmt.Errorf("duration: want a string such as \"1.5s\": %w", err)
	}
	parsed, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("duration %q: want a number with a unit, such as \"1.5s\"", text)
	}
	*d = Duration(parsed)
	return nil
}

// Hash identifies what a worker does: it covers all but Connections, Tests and Generation,
// so that a rotated password does not count as a new configuration.
func (p *Pipeline) Hash() string {
	covered := *p
	covered.Connections, covered.Tests, covered.Generation = nil, nil, 0
	// Marshalling plain structs with valid raw JSON cannot fail.
	data, _ := json.Marshal(&covered)
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:5])
}

// Load reads a configuration file. It also returns the paths of the keys that this version does not know: an older image starts
// on a newer manager's file.
func Load(path string) (p *Pipeline, unknown []string, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read configuration: %w", err)
	}
	p = &Pipeline{}
	if unknown, err = config.Decode(data, p); err != nil {
		return nil, nil, fmt.Errorf("parse %s: %w", FileName, err)
	}
	return p, unknown, nil
}
