// SPDX-License-Identifier: Apache-2.0

// Package config is Greeter's own part of its service's configuration.
package config

// Settings are what only Greeter needs.
type Settings struct {
	Greeting string `json:"greeting"`
}
