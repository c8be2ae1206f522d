// SPDX-License-Identifier: Apache-2.0

package material

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/netip"
	"regexp"
	"strings"
	"time"

	vault "github.com/itechsmart/operator/workloads/vault/client"
)

// Limits of Issue.
const (
	DefaultTTL = 2160 * time.Hour
	MinTTL     = time.Minute
	MaxTTL     = 20 * 365 * 24 * time.Hour
	maxNames   = 100

	// backdate allows for slow clocks.
	backdate = 5 * time.Minute
)

var dnsForm = regexp.MustCompile(`^(\*\.)?[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`)

// request is a validated vault.Issue.
type request struct {
	commonName string
	dnsNames   []string
	addresses  []netip.Addr
	ttl        time.Duration
	ca         bool
}

// CheckIssue refuses an invalid recipe, with a FieldError.
func CheckIssue(secretType string, i vault.Issue) error {
	_, err := parseIssue(secretType, i)
	return err
}

func parseIssue(secretType string, i vault.Issue) (request, error) {
	r := request{commonName: i.CommonName, dnsNames: i.DNSNames, ttl: DefaultTTL, ca: i.CA}
	if secretType != vault.TypeCertificate {
		return r, Invalid("issue", "only a Certificate can be issued")
	}
	if len(i.DNSNames)+len(i.IPAddresses) > maxNames {
		return r, Invalid("issue.dnsNames", "must have at most %d names", maxNames)
	}
	for n, name := range i.DNSNames {
		if len(name) > 253 || !dnsForm.MatchString(name) {
			return r, Invalid(fmt.Sprintf("issue.dnsNames[%d]", n), "must be a DNS name in lower case")
		}
	}
	for n, text := range i.IPAddresses {
		address, err := netip.ParseAddr(text)
		if err != nil || address.Zone() != "" {
			return r, Invalid(fmt.Sprintf("issue.ipAddresses[%d]", n), "must be an IP address")
		}
		r.addresses = append(r.addresses, address.Unmap())
	}
	if len(i.CommonName) > 64 || strings.ContainsFunc(i.CommonName, func(c rune) bool { return c < ' ' || c > '~' }) {
		return r, Invalid("issue.commonName", "must have at most 64 printable ASCII characters")
	}
	if len(i.DNSNames)+len(i.IPAddresses) == 0 && (!i.CA || i.CommonName == "") {
		return r, Invalid("issue.dnsNames", "a certificate needs a DNS name or an IP address, a CA's a common name")
	}
	if i.TTL != "" {
		ttl, err := time.ParseDuration(i.TTL)
		if err != nil || ttl < MinTTL || ttl > MaxTTL {
			return r, Invalid("issue.ttl", "must be a duration of %s to %s", MinTTL, MaxTTL)
		}
		r.ttl = ttl
	}
	return r, nil
}

// signer is the CA, or the new key itself.
type signer struct {
	chain []*x509.Certificate // the CA first; empty: self-signed
	root  []byte              // the root that the CA's own secret names; nil: the last of the chain
	key   crypto.Signer
}

// parseSigner reads a CA from a secret's value, with a FieldError for issue.caPath.
func parseSigner(ca vault.Value, now time.Time) (signer, error) {
	certificate, err := checkCertificate(ca)
	if err != nil {
		return signer{}, Invalid("issue.caPath", "it contains no certificate with its key")
	}
	if !certificate.IsCA || !certificate.BasicConstraintsValid || (certificate.KeyUsage != 0 && certificate.KeyUsage&x509.KeyUsageCertSign == 0) {
		return signer{}, Invalid("issue.caPath", "its certificate may not sign others")
	}
	if now.After(certificate.NotAfter) || now.Before(certificate.NotBefore) {
		return signer{}, Invalid("issue.caPath", "its certificate is expired or not yet valid")
	}
	chain, err := parseChain(ca[vault.FieldCertificate])
	if err != nil {
		return signer{}, Invalid("issue.caPath", "it contains no certificate")
	}
	key, err := parseKey(ca[vault.FieldPrivateKey])
	if err != nil {
		return signer{}, Invalid("issue.caPath", "it contains no key")
	}
	return signer{chain: chain, root: ca[vault.FieldCA], key: key}, nil
}

// Issue creates an ECDSA P-256 key and a certificate for it: signed by the given CA, or self-signed if ca is nil. It is
// valid from shortly before now, and no longer than the CA. The caller zeroes the value.
func Issue(i vault.Issue, ca vault.Value, now time.Time) (vault.Value, error) {
	r, err := parseIssue(vault.TypeCertificate, i)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	template, err := r.template(&key.PublicKey, now)
	if err != nil {
		return nil, err
	}
	by := signer{key: key}
	parent := template
	if ca != nil {
		if by, err = parseSigner(ca, now); err != nil {
			return nil, err
		}
		parent = by.chain[0]
		if r.ca && parent.MaxPathLen == 0 && parent.MaxPathLenZero {
			return nil, Invalid("issue.ca", "the CA may not sign other CAs")
		}
		if parent.NotAfter.Before(template.NotAfter) {
			template.NotAfter = parent.NotAfter
		}
		if parent.NotBefore.After(template.NotBefore) {
			template.NotBefore = parent.NotBefore
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by.key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	return assemble(der, key, by)
}

func (r request) template(public *ecdsa.PublicKey, now time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 159)) // at most 20 octets, positive
	if err != nil {
		return nil, fmt.Errorf("draw serial number: %w", err)
	}
	point, err := public.Bytes()
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	keyID := sha256.Sum256(point)
	t := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)),
		Subject:      pkix.Name{CommonName: r.commonName},
		NotBefore:    now.Add(-backdate).UTC().Truncate(time.Second),
		NotAfter:     now.Add(r.ttl).UTC().Truncate(time.Second),
		DNSNames:     r.dnsNames,
		SubjectKeyId: keyID[:20],

		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	for _, address := range r.addresses {
		t.IPAddresses = append(t.IPAddresses, address.AsSlice())
	}
	if r.ca {
		t.IsCA, t.KeyUsage, t.ExtKeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign|x509.KeyUsageDigitalSignature, nil
	}
	return t, nil
}

// assemble encodes PEM: the leaf with the intermediate CAs, the key, and the last of the chain as ca.crt.
func assemble(der []byte, key *ecdsa.PrivateKey, by signer) (vault.Value, error) {
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("write key: %w", err)
	}
	defer clear(private)
	own := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	chain, root := own, own
	for n, ca := range by.chain {
		root = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw})
		if selfSigned := ca.CheckSignatureFrom(ca) == nil; selfSigned && n == len(by.chain)-1 {
			break // a root is not part of the chain
		}
		chain = append(chain, root...)
	}
	if by.root != nil {
		root = bytes.Clone(by.root) // the caller zeroes the CA
	}
	return vault.Value{
		vault.FieldCertificate: chain,
		vault.FieldPrivateKey:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		vault.FieldCA:          root,
	}, nil
}
