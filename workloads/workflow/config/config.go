// SPDX-License-Identifier: Apache-2.0

// Package config is Workflow's own part of its service's configuration.
package config

// Settings of the Workflow service.
type Settings struct {
	// MaxOutputBytes bounds the inputs of a run and the output of a step; 256 KiB when zero.
	MaxOutputBytes int `json:"maxOutputBytes,omitempty"`
}
