// SPDX-License-Identifier: Apache-2.0

package material

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	vault "github.com/itechsmart/operator/workloads/vault/client"
)

// maxChain limits the certificates of one bundle.
const maxChain = 20

// checkCertificate parses tls.crt (the leaf first, each signed by the next), tls.key (the leaf's) and ca.crt, and returns
// the leaf. An expired certificate is accepted: its expiry is reported as a condition.
func checkCertificate(v vault.Value) (*x509.Certificate, error) {
	chain, err := parseChain(v[vault.FieldCertificate])
	if err != nil {
		return nil, Invalid("value."+vault.FieldCertificate, "%s", err)
	}
	for i := range len(chain) - 1 {
		if err := chain[i].CheckSignatureFrom(chain[i+1]); err != nil {
			return nil, Invalid("value."+vault.FieldCertificate, "certificate %d is not signed by certificate %d", i+1, i+2)
		}
	}
	key, err := parseKey(v[vault.FieldPrivateKey])
	if err != nil {
		return nil, Invalid("value."+vault.FieldPrivateKey, "%s", err)
	}
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(chain[0].PublicKey) {
		return nil, Invalid("value."+vault.FieldPrivateKey, "it does not belong to the first certificate of %s", vault.FieldCertificate)
	}
	if ca, given := v[vault.FieldCA]; given {
		if err := checkCA(chain, ca); err != nil {
			return nil, err
		}
	}
	return chain[0], nil
}

// checkCA requires that the chain ends at one of the CA's certificates, regardless of its validity period.
func checkCA(chain []*x509.Certificate, bundle []byte) error {
	cas, err := parseChain(bundle)
	if err != nil {
		return Invalid("value."+vault.FieldCA, "%s", err)
	}
	last := chain[len(chain)-1]
	for _, ca := range cas {
		if last.Equal(ca) || last.CheckSignatureFrom(ca) == nil {
			return nil
		}
	}
	return Invalid("value."+vault.FieldCA, "it signed no certificate of %s", vault.FieldCertificate)
}

func parseChain(data []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for {
		var block *pem.Block
		block, data = pem.Decode(data)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, errors.New("it contains a PEM block that is not a CERTIFICATE")
		}
		if len(chain) == maxChain {
			return nil, fmt.Errorf("it contains more than %d certificates", maxChain)
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d cannot be parsed", len(chain)+1)
		}
		chain = append(chain, certificate)
	}
	if len(chain) == 0 {
		return nil, errors.New("it contains no PEM block CERTIFICATE")
	}
	if len(bytes.TrimSpace(data)) > 0 {
		return nil, errors.New("there is data after the last PEM block")
	}
	return chain, nil
}

// parseKey parses one private key: PKCS #8, PKCS #1 (RSA) or SEC 1 (EC). Its errors never quote the input.
func parseKey(data []byte) (crypto.Signer, error) {
	block, rest := pem.Decode(data)
	if block != nil && block.Type == "EC PARAMETERS" { // openssl writes them first
		block, rest = pem.Decode(rest)
	}
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("it is not exactly one PEM block")
	}
	defer clear(block.Bytes)
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return nil, errors.New("it is not an unencrypted PRIVATE KEY")
	}
	if err != nil {
		return nil, errors.New("it cannot be parsed")
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		if key.N.BitLen() < 2048 {
			return nil, errors.New("an RSA key must have at least 2048 bits")
		}
		return key, nil
	case *ecdsa.PrivateKey:
		return key, nil
	case ed25519.PrivateKey:
		return key, nil
	}
	return nil, errors.New("it is neither RSA, ECDSA nor Ed25519")
}
