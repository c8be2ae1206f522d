// SPDX-License-Identifier: Apache-2.0

// Package pki issues the certificates of the local cluster: one authority each for the cluster, for the front proxy
// (aggregation layer) and for etcd, the leaf certificates below them, and the key that signs service account tokens.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"sigs.k8s.io/yaml"
)

// validity of every certificate: a development cluster is used for days.
const validity = 365 * 24 * time.Hour

// Leaf describes one certificate.
type Leaf struct {
	// Name is the base name of its files: Name.crt and Name.key.
	Name string
	// Authority is the base name of the issuing authority.
	Authority    string
	CommonName   string
	Organization []string
	// DNSNames and IPs make it a serving certificate; without either it identifies a client.
	DNSNames []string
	IPs      []net.IP
	// Client makes a serving certificate valid for clients too (etcd needs both).
	Client bool
	// Kubeconfig, if set, is the server URL of a kubeconfig Name.kubeconfig that contains the certificate.
	Kubeconfig string
}

// Authority is a certificate authority.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Ensure issues what is missing in dir: authorities and leaves; and the key named serviceAccountKey. Existing ones are
// kept.
func Ensure(dir string, authorities []string, leaves []Leaf, serviceAccountKey string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	issuers := map[string]*Authority{}
	for _, name := range authorities {
		a, err := ensureAuthority(dir, name)
		if err != nil {
			return fmt.Errorf("authority %s: %w", name, err)
		}
		issuers[name] = a
	}
	for _, leaf := range leaves {
		issuer, ok := issuers[leaf.Authority]
		if !ok {
			return fmt.Errorf("certificate %s: unknown authority %q", leaf.Name, leaf.Authority)
		}
		if err := ensureLeaf(dir, leaf, issuer); err != nil {
			return fmt.Errorf("certificate %s: %w", leaf.Name, err)
		}
	}
	return ensureServiceAccountKey(dir, serviceAccountKey)
}

func ensureAuthority(dir, name string) (*Authority, error) {
	if a, err := loadAuthority(dir, name); err == nil {
		return a, nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template, err := template(pkix.Name{CommonName: name})
	if err != nil {
		return nil, err
	}
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	if err := write(dir, name, der, key); err != nil {
		return nil, err
	}
	return loadAuthority(dir, name)
}

func loadAuthority(dir, name string) (*Authority, error) {
	cert, err := readPEM(filepath.Join(dir, name+".crt"))
	if err != nil {
		return nil, err
	}
	keyDER, err := readPEM(filepath.Join(dir, name+".key"))
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParseCertificate(cert)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParseECPrivateKey(keyDER)
	if err != nil {
		return nil, err
	}
	return &Authority{cert: parsed, key: key}, nil
}

func ensureLeaf(dir string, leaf Leaf, issuer *Authority) error {
	_, certErr := os.Stat(filepath.Join(dir, leaf.Name+".crt"))
	_, keyErr := os.Stat(filepath.Join(dir, leaf.Name+".key"))
	if certErr != nil || keyErr != nil {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		template, err := template(pkix.Name{CommonName: leaf.CommonName, Organization: leaf.Organization})
		if err != nil {
			return err
		}
		template.KeyUsage = x509.KeyUsageDigitalSignature
		template.DNSNames, template.IPAddresses = leaf.DNSNames, leaf.IPs
		serving := len(leaf.DNSNames)+len(leaf.IPs) > 0
		if serving {
			template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		}
		if !serving || leaf.Client {
			template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
		}
		der, err := x509.CreateCertificate(rand.Reader, template, issuer.cert, key.Public(), issuer.key)
		if err != nil {
			return err
		}
		if err := write(dir, leaf.Name, der, key); err != nil {
			return err
		}
	}
	if leaf.Kubeconfig == "" {
		return nil
	}
	return WriteKubeconfig(dir, leaf, filepath.Join(dir, leaf.Name+".kubeconfig"))
}

func ensureServiceAccountKey(dir, name string) error {
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path + ".pub"); err == nil {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	if err := writePEM(path+".key", "EC PRIVATE KEY", private, 0o600); err != nil {
		return err
	}
	return writePEM(path+".pub", "PUBLIC KEY", public, 0o644)
}

func template(subject pkix.Name) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial, Subject: subject,
		// Clocks of virtual machines step back a little at times.
		NotBefore: now.Add(-5 * time.Minute), NotAfter: now.Add(validity),
	}, nil
}

func write(dir, name string, der []byte, key *ecdsa.PrivateKey) error {
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	if err := writePEM(filepath.Join(dir, name+".key"), "EC PRIVATE KEY", private, 0o600); err != nil {
		return err
	}
	return writePEM(filepath.Join(dir, name+".crt"), "CERTIFICATE", der, 0o644)
}

func writePEM(path, kind string, der []byte, mode os.FileMode) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode)
}

func readPEM(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s: not PEM", path)
	}
	return block.Bytes, nil
}

// WriteKubeconfig writes a kubeconfig to path with the leaf certificate of dir, its key and its authority.
func WriteKubeconfig(dir string, leaf Leaf, path string) error {
	data := map[string][]byte{}
	for key, file := range map[string]string{"ca": leaf.Authority + ".crt", "cert": leaf.Name + ".crt", "key": leaf.Name + ".key"} {
		b, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return err
		}
		data[key] = b
	}
	const name = "itechsmart-local"
	b, err := yaml.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": name,
		"clusters": []any{map[string]any{"name": name, "cluster": map[string]any{
			"server": leaf.Kubeconfig, "certificate-authority-data": data["ca"]}}},
		"users": []any{map[string]any{"name": leaf.Name, "user": map[string]any{
			"client-certificate-data": data["cert"], "client-key-data": data["key"]}}},
		"contexts": []any{map[string]any{"name": name, "context": map[string]any{"cluster": name, "user": leaf.Name}}},
	})
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o600)
}
