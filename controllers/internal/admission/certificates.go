// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	validity = 90 * 24 * time.Hour
	// skew is by how much the API server's clock may be behind.
	skew = time.Hour
	// renewAt is which part of its time a certificate serves.
	renewAt = 2.0 / 3

	keyAuthorities = "ca.crt"
)

// identity is a certificate to serve with, and the authorities to know it by.
type identity struct {
	serving     *tls.Certificate
	authorities []byte // PEM; after a renewal those before it as well, for who still serves with the last one
	renew       time.Time
}

// issue returns a certificate for hosts, and an authority that signs it alone, whose key is discarded. before are the authorities
// that stay trusted.
func issue(now time.Time, hosts []string, before []byte) (map[string][]byte, error) {
	authority, authorityKey, err := sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "itechsmart webhook authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}, now, nil, nil)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: hosts[0]}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
			continue
		}
		template.DNSNames = append(template.DNSNames, host)
	}
	leaf, key, err := sign(template, now, authority, authorityKey)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return map[string][]byte{
		corev1.TLSCertKey:       encode("CERTIFICATE", leaf.Raw),
		corev1.TLSPrivateKeyKey: encode("PRIVATE KEY", private),
		keyAuthorities:          append(encode("CERTIFICATE", authority.Raw), valid(before, now)...),
	}, nil
}

// sign makes a certificate; without a parent it signs itself.
func sign(template *x509.Certificate, now time.Time, parent *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return nil, nil, err
	}
	template.NotBefore, template.NotAfter = now.Add(-skew), now.Add(validity)
	if parent == nil {
		parent, by = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		return nil, nil, err
	}
	made, err := x509.ParseCertificate(der)
	return made, key, err
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// certificates returns the certificates of a PEM text.
func certificates(text []byte) []*x509.Certificate {
	var out []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if made, err := x509.ParseCertificate(block.Bytes); err == nil && block.Type == "CERTIFICATE" {
			out = append(out, made)
		}
	}
	return out
}

// valid returns those certificates whose time is not over.
func valid(text []byte, now time.Time) []byte {
	var out bytes.Buffer
	for _, c := range certificates(text) {
		if now.Before(c.NotAfter) {
			out.Write(encode("CERTIFICATE", c.Raw))
		}
	}
	return out.Bytes()
}

// read takes an identity from a Secret's data, and refuses one that does not serve for these hosts now.
func read(data map[string][]byte, now time.Time, hosts []string) (*identity, error) {
	pair, err := tls.X509KeyPair(data[corev1.TLSCertKey], data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return nil, errors.New("it holds no certificate with its key") // the cause could quote the key
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(data[keyAuthorities])
	for _, host := range hosts {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: roots, CurrentTime: now}); err != nil {
			return nil, fmt.Errorf("its certificate does not serve: %w", err)
		}
	}
	life := pair.Leaf.NotAfter.Sub(pair.Leaf.NotBefore)
	return &identity{
		serving: &pair, authorities: data[keyAuthorities], renew: pair.Leaf.NotBefore.Add(time.Duration(float64(life) * renewAt)),
	}, nil
}
