// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
)

// TLSConfig returns the client configuration of the binding: nil without TLS, else the binding's CA (key
// ca.crt; the system's roots if empty) and the client certificate of keys tls.crt and tls.key, if present. Key
// tls-server-name overrides the name that the certificate must have.
func (b Binding) TLSConfig() (*tls.Config, error) {
	switch b.TLS {
	case "", "false":
		return nil, nil
	case "true":
	default:
		return nil, fmt.Errorf("binding key %q is neither \"true\" nor \"false\": %w", "tls", ErrInvalid)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: b.Extra["tls-server-name"]}
	if b.CA != "" {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM([]byte(b.CA)) {
			return nil, fmt.Errorf("binding key %q holds no PEM certificate: %w", "ca.crt", ErrInvalid)
		}
	}
	certificate, key := b.Extra["tls.crt"], b.Extra["tls.key"]
	if certificate == "" && key == "" {
		return config, nil
	}
	pair, err := tls.X509KeyPair([]byte(certificate), []byte(key))
	if err != nil {
		// The cause could quote the key: leave it out.
		return nil, fmt.Errorf("binding keys %q and %q are not a PEM key pair: %w", "tls.crt", "tls.key", ErrInvalid)
	}
	config.Certificates = []tls.Certificate{pair}
	return config, nil
}
