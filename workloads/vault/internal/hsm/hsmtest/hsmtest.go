// SPDX-License-Identifier: Apache-2.0

//go:build cgo

// Package hsmtest creates tokens of SoftHSM, a PKCS #11 library without hardware.
package hsmtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/miekg/pkcs11"
)

// PIN of the user of every token, and the one of its security officer.
const (
	PIN   = "correct-pin-1843"
	soPIN = "so-pin-4711"
)

// libraries are the paths of SoftHSM on Debian.
var libraries = []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"}

// Library returns the path of SoftHSM's library.
func Library(t testing.TB) string {
	t.Helper()
	if os.Getenv("ITECHSMART_SKIP_SERVERS") == "1" {
		t.Skip("ITECHSMART_SKIP_SERVERS=1")
	}
	for _, file := range libraries {
		if _, err := os.Stat(file); err == nil {
			return file
		}
	}
	t.Fatal("SoftHSM is missing: run `make prerequisites`, or set ITECHSMART_SKIP_SERVERS=1 to skip these tests")
	return ""
}

// Use limits the process to the tokens of a directory, until the end of the test.
func Use(t testing.TB, dir string) {
	t.Helper()
	file := filepath.Join(dir, "softhsm2.conf")
	if err := os.WriteFile(file, []byte("directories.tokendir = "+dir+"\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", file)
}

// NewToken creates a token with a label in a directory of its own, returns the directory, and uses it.
func NewToken(t testing.TB, label string) (dir string) {
	t.Helper()
	Library(t)
	dir = t.TempDir()
	Use(t, dir)
	out, err := exec.Command("softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", soPIN).CombinedOutput()
	if err != nil {
		t.Fatalf("make a token: %v: %s", err, out)
	}
	return dir
}

// session runs do as the user of the only token.
func session(t testing.TB, do func(*pkcs11.Ctx, pkcs11.SessionHandle) error) {
	t.Helper()
	library := pkcs11.New(Library(t))
	if library == nil {
		t.Fatal("SoftHSM does not load")
	}
	defer library.Destroy()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(library.Initialize())
	defer library.Finalize() //nolint:errcheck // the test's own
	slots, err := library.GetSlotList(true)
	check(err)
	for _, slot := range slots {
		info, err := library.GetTokenInfo(slot)
		check(err)
		if info.Flags&pkcs11.CKF_TOKEN_INITIALIZED == 0 {
			continue
		}
		handle, err := library.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
		check(err)
		check(library.Login(handle, pkcs11.CKU_USER, PIN))
		check(do(library, handle))
		return
	}
	t.Fatal("there is no token")
}

// NewAES creates an AES key; without decrypts it can only encrypt.
func NewAES(t testing.TB, label string, decrypts bool) {
	t.Helper()
	session(t, func(library *pkcs11.Ctx, handle pkcs11.SessionHandle) error {
		_, err := library.GenerateKey(handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)}, []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_LABEL, label), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32),
			pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true), pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, decrypts),
			pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
		})
		return err
	})
}

// NewRSA creates an RSA key pair of 2048 bits.
func NewRSA(t testing.TB, label string) {
	t.Helper()
	session(t, func(library *pkcs11.Ctx, handle pkcs11.SessionHandle) error {
		_, _, err := library.GenerateKeyPair(handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, nil)}, []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_LABEL, label), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true),
			pkcs11.NewAttribute(pkcs11.CKA_MODULUS_BITS, 2048), pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}),
		}, []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_LABEL, label), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
			pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, true), pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
		})
		return err
	})
}
