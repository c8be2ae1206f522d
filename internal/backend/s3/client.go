// SPDX-License-Identifier: Apache-2.0

package s3

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/itechsmart/operator/internal/backend"
)

const (
	dialTimeout = 10 * time.Second
	// answerTimeout limits the time from the end of a request to the start of the response.
	answerTimeout = time.Minute
	// tries of a request that failed temporarily.
	tries = 3
)

// Endpoint reads the store's address: key uri, https://host[:port], or keys host and port with tls. The
// returned binding has host, port (the scheme's default if none is given) and tls in either case. ErrInvalid
// names the missing or invalid key.
func Endpoint(b backend.Binding) (backend.Binding, error) {
	if b.URI == "" {
		if b.Host == "" {
			return b, fmt.Errorf("binding lacks key %q: %w", "host", backend.ErrInvalid)
		}
		if b.Port == "" {
			b.Port = portOf(b.TLS == "true")
		}
		return b, nil
	}
	parsed, err := url.Parse(b.URI)
	if err != nil || parsed.Hostname() == "" || parsed.Scheme != "http" && parsed.Scheme != "https" ||
		parsed.User != nil || parsed.Path != "" && parsed.Path != "/" || parsed.RawQuery != "" || parsed.Fragment != "" {
		// Omit both the cause and the text: they could contain credentials.
		return b, fmt.Errorf("binding key %q is not of the form https://host[:port]: %w", "uri", backend.ErrInvalid)
	}
	secure := parsed.Scheme == "https"
	b.Host, b.Port, b.TLS = parsed.Hostname(), parsed.Port(), ""
	if secure {
		b.TLS = "true"
	}
	if b.Port == "" {
		b.Port = portOf(secure)
	}
	return b, nil
}

func portOf(secure bool) string {
	if secure {
		return "443"
	}
	return "80"
}

// address omits the scheme's default port, because the signature covers the name as the client writes it.
func address(b backend.Binding, secure bool) string {
	if b.Port != portOf(secure) {
		return b.Address()
	}
	if ip := net.ParseIP(b.Host); ip != nil && ip.To4() == nil {
		return "[" + b.Host + "]"
	}
	return b.Host
}

// Client returns a client of the binding's store, without connecting yet: the endpoint as read by Endpoint;
// keys access-key and secret-key, or username and password; region. ErrInvalid names the missing or invalid
// key.
func Client(b backend.Binding) (*minio.Client, error) {
	client, _, err := dial(b)
	return client, err
}

func dial(b backend.Binding) (*minio.Client, *http.Transport, error) {
	b, err := Endpoint(b)
	if err != nil {
		return nil, nil, err
	}
	config, err := b.TLSConfig()
	if err != nil {
		return nil, nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = (&net.Dialer{Timeout: dialTimeout}).DialContext
	transport.TLSClientConfig, transport.ResponseHeaderTimeout = config, answerTimeout
	// Steps of many workers run concurrently, and all use this one host.
	transport.MaxIdleConnsPerHost = 32
	access, secret := Credentials(b)
	client, err := minio.New(address(b, config != nil), &minio.Options{
		Creds: credentials.NewStaticV4(access, secret, ""), Secure: config != nil,
		Transport: transport, Region: b.Extra[KeyRegion], MaxRetries: tries,
	})
	if err != nil {
		return nil, nil, b.Error("s3: connect", backend.ErrInvalid, err)
	}
	return client, transport, nil
}

// Credentials returns keys access-key and secret-key, or else username and password.
func Credentials(b backend.Binding) (access, secret string) {
	access, secret = b.Extra[KeyAccessKey], b.Extra[KeySecretKey]
	if access == "" {
		access = b.Username
	}
	if secret == "" {
		secret = b.Password
	}
	return access, secret
}

// Error wraps a client's error in the matching sentinel.
func Error(b backend.Binding, op string, err error) error {
	return b.Error("s3: "+op, kindOf(err), err)
}

// kindOf maps the code of the S3 protocol to a sentinel; nil: another code, or a temporary one.
func kindOf(err error) error {
	if err == nil {
		return nil
	}
	response := minio.ToErrorResponse(err)
	switch response.Code {
	case minio.NoSuchKey, minio.NoSuchBucket:
		return backend.ErrNotFound
	case minio.AccessDenied, "InvalidAccessKeyId", "SignatureDoesNotMatch", "AllAccessDisabled", "AccountProblem", "InvalidToken", "RequestTimeTooSkewed":
		return backend.ErrAuth
	case minio.InvalidArgument, "InvalidBucketName", "InvalidObjectName", "XMinioInvalidObjectName", "KeyTooLongError",
		"EntityTooLarge", "InvalidRequest", "MethodNotAllowed", "PermanentRedirect", "AuthorizationHeaderMalformed":
		return backend.ErrInvalid
	}
	if response.StatusCode == http.StatusUnauthorized || response.StatusCode == http.StatusForbidden {
		return backend.ErrAuth
	}
	return nil
}
