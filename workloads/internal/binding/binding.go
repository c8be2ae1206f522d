// SPDX-License-Identifier: Apache-2.0

// Package binding reads what the bindings of all backends have in common, in the Service Binding format.
package binding

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strconv"
)

// ErrInvalid means that a binding cannot work; retrying does not help.
var ErrInvalid = errors.New("invalid binding")

// Require returns an error that names the first key the binding lacks.
func Require(binding map[string]string, keys ...string) error {
	for _, key := range keys {
		if binding[key] == "" {
			return fmt.Errorf("binding lacks key %q: %w", key, ErrInvalid)
		}
	}
	return nil
}

// Port returns the key port.
func Port(binding map[string]string) (uint16, error) {
	port, err := strconv.ParseUint(binding["port"], 10, 16)
	if err != nil || port == 0 {
		return 0, fmt.Errorf("binding key %q is not a port: %w", "port", ErrInvalid)
	}
	return uint16(port), nil
}

// Address returns host:port.
func Address(binding map[string]string) string {
	return net.JoinHostPort(binding["host"], binding["port"])
}

// TLS returns the configuration that the keys tls, ca.crt, tls.crt, tls.key and tls-server-name describe; nil: no TLS.
// Errors contain no credential.
func TLS(binding map[string]string) (*tls.Config, error) {
	switch binding["tls"] {
	case "", "false":
		return nil, nil
	case "true":
	default:
		return nil, fmt.Errorf("binding key %q is neither \"true\" nor \"false\": %w", "tls", ErrInvalid)
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: binding["tls-server-name"]}
	if out.ServerName == "" {
		out.ServerName = binding["host"]
	}
	if ca := binding["ca.crt"]; ca != "" {
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM([]byte(ca)) {
			return nil, fmt.Errorf("binding key %q holds no PEM certificate: %w", "ca.crt", ErrInvalid)
		}
	}
	if binding["tls.crt"] == "" && binding["tls.key"] == "" {
		return out, nil
	}
	pair, err := tls.X509KeyPair([]byte(binding["tls.crt"]), []byte(binding["tls.key"]))
	if err != nil {
		// The cause could quote the key: leave it out.
		return nil, fmt.Errorf("binding keys %q and %q are not a PEM key pair: %w", "tls.crt", "tls.key", ErrInvalid)
	}
	out.Certificates = []tls.Certificate{pair}
	return out, nil
}
