// SPDX-License-Identifier: Apache-2.0

// Package backend holds what all backing systems share: the binding, which says how to reach one, and the
// errors of its clients.
package backend

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
)

// Sentinel errors of every backend client. Wrap them: callers use errors.Is.
var (
	// ErrNotFound: the named object does not exist.
	ErrNotFound = errors.New("not found")
	// ErrExists: the named object already exists.
	ErrExists = errors.New("already exists")
	// ErrUnavailable: the server did not answer, or cannot serve now. Retry later.
	ErrUnavailable = errors.New("unavailable")
	// ErrInvalid: the server refuses the request. A retry does not help.
	ErrInvalid = errors.New("invalid")
	// ErrAuth: the credentials are refused or lack a privilege.
	ErrAuth = errors.New("access denied")
)

// Binding is one Secret in the Service Binding format
// (https://servicebinding.io/spec/core/1.1.0/): how to reach one backend.
type Binding struct {
	Type     string // kafka, clickhouse, postgresql, redis, rabbitmq, s3, …
	Provider string // who runs it: managed, external, operated
	Host     string
	Port     string // decimal
	Username string
	Password string
	URI      string
	Database string
	// BootstrapServers is Kafka's list of host:port, comma-separated.
	BootstrapServers string
	// SASLMechanism is Kafka's: "", PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
	SASLMechanism string
	// CA is the PEM bundle to trust; empty with TLS means the system's roots.
	CA string
	// TLS is "true" when the connection is encrypted.
	TLS string
	// Extra holds every other key of the Secret.
	Extra map[string]string
}

// fields maps the Secret's keys to the struct's fields.
func (b *Binding) fields() map[string]*string {
	return map[string]*string{
		"type": &b.Type, "provider": &b.Provider, "host": &b.Host, "port": &b.Port,
		"username": &b.Username, "password": &b.Password, "uri": &b.URI, "database": &b.Database,
		"bootstrap-servers": &b.BootstrapServers, "sasl-mechanism": &b.SASLMechanism,
		"ca.crt": &b.CA, "tls": &b.TLS,
	}
}

// ParseBinding reads a binding from a Secret's data. Values are trimmed of the trailing newline that `kubectl
// create secret --from-file` leaves.
func ParseBinding[V string | []byte](data map[string]V) Binding {
	b := Binding{}
	fields := b.fields()
	for key, value := range data {
		text := strings.TrimRight(string(value), "\r\n")
		if field, ok := fields[key]; ok {
			*field = text
			continue
		}
		if b.Extra == nil {
			b.Extra = map[string]string{}
		}
		b.Extra[key] = text
	}
	return b
}

// Data returns the binding as a Secret's data, without empty fields.
func (b Binding) Data() map[string]string {
	data := map[string]string{}
	for key, value := range b.Extra {
		data[key] = value
	}
	for key, field := range b.fields() {
		if *field != "" {
			data[key] = *field
		}
	}
	return data
}

// Require returns an error that names the first key the binding lacks.
func (b Binding) Require(keys ...string) error {
	data := b.Data()
	for _, key := range keys {
		if data[key] == "" {
			return fmt.Errorf("binding lacks key %q: %w", key, ErrInvalid)
		}
	}
	return nil
}

// Address returns host:port.
func (b Binding) Address() string { return net.JoinHostPort(b.Host, b.Port) }

// ComposeURI returns scheme://user:password@host:port/path, escaped.
func (b Binding) ComposeURI(scheme, path string) string {
	u := url.URL{Scheme: scheme, Host: b.Address(), Path: path}
	if b.Username != "" {
		u.User = url.UserPassword(b.Username, b.Password)
	}
	return u.String()
}

// Brokers returns Kafka's bootstrap list, host:port each.
func (b Binding) Brokers() []string {
	list := b.BootstrapServers
	if list == "" && b.Host != "" {
		list = b.Address()
	}
	var out []string
	for _, broker := range strings.Split(list, ",") {
		if broker = strings.TrimSpace(broker); broker != "" {
			out = append(out, broker)
		}
	}
	return out
}

// String never shows credentials, so that a stray %v leaks nothing.
func (b Binding) String() string { return fmt.Sprintf("%s at %s", b.Type, b.Address()) }

// GoString makes %#v as safe as %v.
func (b Binding) GoString() string { return b.String() }
