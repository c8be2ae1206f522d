// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"
)

// opError is a failed operation on a backend. Its text is redacted, and it unwraps only to a sentinel, so that
// no log line can reveal what the server or the driver said about credentials.
type opError struct {
	text string
	is   []error
}

func (e *opError) Error() string   { return e.text }
func (e *opError) Unwrap() []error { return e.is }

// Error returns the error of op, caused by cause, as one of the sentinels (kind). A nil kind is decided by
// KindOf, and is ErrUnavailable if that has none: an unknown error is worth a retry. The text never contains
// the binding's credentials. A cause that already wraps a sentinel keeps it.
func (b Binding) Error(op string, kind, cause error) error {
	if cause == nil {
		return nil
	}
	if kind == nil {
		kind = KindOf(cause)
	}
	if kind == nil {
		kind = ErrUnavailable
	}
	is := []error{kind}
	if errors.Is(cause, context.DeadlineExceeded) || errors.Is(cause, os.ErrDeadlineExceeded) {
		is = append(is, context.DeadlineExceeded)
	}
	if errors.Is(cause, context.Canceled) {
		is = append(is, context.Canceled)
	}
	text := b.Redact(cause.Error())
	if errors.Is(cause, kind) {
		return &opError{text: op + ": " + text, is: is}
	}
	return &opError{text: fmt.Sprintf("%s: %v: %s", op, kind, text), is: is}
}

// KindOf returns the sentinel of an error that all systems share: one that it already wraps, a refused or
// broken connection, an ended context. It is nil if the error belongs to the system's own protocol.
func KindOf(err error) error {
	for _, kind := range []error{ErrNotFound, ErrExists, ErrUnavailable, ErrInvalid, ErrAuth} {
		if errors.Is(err, kind) {
			return kind
		}
	}
	var network net.Error
	var certificate *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var record tls.RecordHeaderError
	var errno syscall.Errno
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled),
		errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, net.ErrClosed),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.As(err, &network), errors.As(err, &certificate),
		errors.As(err, &authority), errors.As(err, &record), errors.As(err, &errno):
		return ErrUnavailable
	}
	return nil
}

// Redact replaces the binding's credentials in a text with "***".
func (b Binding) Redact(text string) string {
	secrets := []string{b.Password}
	if parsed, err := url.Parse(b.URI); err == nil && parsed.User != nil {
		password, _ := parsed.User.Password()
		secrets = append(secrets, password)
	}
	for key, value := range b.Extra {
		if strings.Contains(key, "key") || strings.Contains(key, "token") || strings.Contains(key, "secret") {
			secrets = append(secrets, value)
		}
	}
	for _, secret := range secrets {
		if secret == "" {
			continue
		}
		for _, form := range []string{secret, url.QueryEscape(secret), url.PathEscape(secret), url.UserPassword("", secret).String()[1:]} {
			text = strings.ReplaceAll(text, form, "***")
		}
	}
	return text
}
