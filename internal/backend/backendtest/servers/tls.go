// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/itechsmart/operator/internal/backend"
)

// TLS puts a TLS endpoint in front of the server of a binding and returns a binding with its CA. It ends with
// the test. A Kafka broker still advertises its plain address, so only the bootstrap connection is encrypted
// there.
func TLS(t testing.TB, b backend.Binding) backend.Binding {
	t.Helper()
	certificate, ca := selfSigned(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{
		target: b.Address(), postgres: b.Type == "postgresql",
		config: &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
	}
	p.group.Go(func() { p.serve(l) })
	t.Cleanup(func() {
		_ = l.Close()
		p.closeAll()
		p.group.Wait()
	})
	b.Port = strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	if b.BootstrapServers != "" {
		b.BootstrapServers = b.Address()
	}
	b.TLS, b.CA = "true", ca
	return b
}

type proxy struct {
	target   string
	postgres bool
	config   *tls.Config

	group sync.WaitGroup
	mu    sync.Mutex
	conns []net.Conn
}

func (p *proxy) serve(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		p.group.Go(func() { p.pipe(conn) })
	}
}

func (p *proxy) pipe(client net.Conn) {
	defer client.Close() //nolint:errcheck // both ends go
	if p.postgres {
		// The client first asks for permission (SSLRequest).
		if _, err := io.ReadFull(client, make([]byte, 8)); err != nil {
			return
		}
		if _, err := client.Write([]byte("S")); err != nil {
			return
		}
	}
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer server.Close() //nolint:errcheck // both ends go
	p.mu.Lock()
	p.conns = append(p.conns, client, server)
	p.mu.Unlock()
	secure := tls.Server(client, p.config)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(server, secure)
		_ = server.Close()
	}()
	_, _ = io.Copy(secure, server)
	_ = client.Close()
	<-done
}

func (p *proxy) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range p.conns {
		_ = conn.Close()
	}
}

// selfSigned returns a certificate for 127.0.0.1 and its PEM, which is its own CA.
func selfSigned(t testing.TB) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, string(ca)
}
