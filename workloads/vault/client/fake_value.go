// SPDX-License-Identifier: Apache-2.0

package client

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"slices"
	"time"

	"github.com/itechsmart/operator/internal/backend"
)

// validate checks a value's fields by its type, and returns when a certificate expires.
func validate(typ string, value Value) (*time.Time, error) {
	required, optional := Fields(typ)
	if required == nil {
		return nil, fmt.Errorf("vault: type %q is unknown: %w", typ, backend.ErrInvalid)
	}
	size := 0
	for field, data := range value {
		if !slices.Contains(required, field) && !slices.Contains(optional, field) {
			return nil, fmt.Errorf("vault: value: type %s has no field %q: %w", typ, field, backend.ErrInvalid)
		}
		size += len(data)
	}
	for _, field := range required {
		if _, ok := value[field]; !ok {
			return nil, fmt.Errorf("vault: value: field %q is missing: %w", field, backend.ErrInvalid)
		}
	}
	if size > MaxValueBytes {
		return nil, fmt.Errorf("vault: value: it has more than %d bytes: %w", MaxValueBytes, backend.ErrInvalid)
	}
	if typ != TypeCertificate {
		return nil, nil
	}
	pair, err := tls.X509KeyPair(value[FieldCertificate], value[FieldPrivateKey])
	if err != nil {
		return nil, fmt.Errorf("vault: value: %s and %s are not a PEM key pair: %w", FieldCertificate, FieldPrivateKey, backend.ErrInvalid)
	}
	expires := pair.Leaf.NotAfter
	return &expires, nil
}

const (
	digits  = "0123456789"
	letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

// charsets are the characters of random values.
var charsets = map[string]string{
	"": digits + letters, "alphanumeric": digits + letters, "alphabetic": letters, "numeric": digits, "hex": digits + "abcdef",
	"printable": digits + letters + "!#$%&()*+,-./:;<=>?@[]^_{|}~",
}

func generate(typ string, g Generate) (Value, error) {
	charset, ok := charsets[g.Charset]
	if !ok || (typ != TypeText && typ != TypeAPIKey) {
		return nil, fmt.Errorf("vault: charset %q or type %s cannot be generated: %w", g.Charset, typ, backend.ErrInvalid)
	}
	length := g.Length
	if length == 0 {
		length = 32
	}
	out := []byte(g.Prefix)
	for range length {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(charset))))
		if err != nil {
			return nil, fmt.Errorf("vault: random: %w", err)
		}
		out = append(out, charset[n.Int64()])
	}
	return Value{MainField(typ): out}, nil
}

// issue issues a certificate; the caller holds the lock.
func (f *Fake) issue(typ string, i Issue) (Value, *time.Time, error) {
	if typ != TypeCertificate {
		return nil, nil, fmt.Errorf("vault: type %s cannot be issued: %w", typ, backend.ErrInvalid)
	}
	ttl := 2160 * time.Hour
	if i.TTL != "" {
		var err error
		if ttl, err = time.ParseDuration(i.TTL); err != nil || ttl <= 0 {
			return nil, nil, fmt.Errorf("vault: ttl %q: %w", i.TTL, backend.ErrInvalid)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("vault: key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, nil, fmt.Errorf("vault: serial: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: i.CommonName}, DNSNames: i.DNSNames,
		NotBefore: f.now().Add(-time.Minute), NotAfter: f.now().Add(ttl), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true, IsCA: i.CA,
	}
	for _, address := range i.IPAddresses {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(address))
	}
	if i.CA {
		template.KeyUsage |= x509.KeyUsageCertSign
	}
	return f.sign(template, key, i.CAPath)
}

func (f *Fake) sign(template *x509.Certificate, key *ecdsa.PrivateKey, caPath string) (Value, *time.Time, error) {
	parent, signer, out := template, any(key), Value{}
	if caPath != "" {
		_, ca, err := f.version(caPath, 0)
		if err != nil {
			return nil, nil, err
		}
		pair, err := tls.X509KeyPair(ca.value[FieldCertificate], ca.value[FieldPrivateKey])
		if err != nil || !pair.Leaf.IsCA {
			return nil, nil, fmt.Errorf("vault: %s is not a certificate that may sign: %w", caPath, backend.ErrInvalid)
		}
		parent, signer = pair.Leaf, pair.PrivateKey
		out[FieldCA] = ca.value[FieldCertificate]
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return nil, nil, fmt.Errorf("vault: issue: %w: %w", backend.ErrInvalid, err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("vault: issue: %w", err)
	}
	out[FieldCertificate] = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	out[FieldPrivateKey] = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	expires := template.NotAfter
	return out, &expires, nil
}
