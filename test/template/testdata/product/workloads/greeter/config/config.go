// SPDX-License-Identifier: Apache-2.0

// Package config is Greeter's own part of its service's configuration.
package config

// Settings of Greeter.
type Settings struct {
	Greeting string `json:"greeting"`
}
