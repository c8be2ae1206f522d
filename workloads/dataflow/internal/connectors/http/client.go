// SPDX-License-Identifier: Apache-2.0

// Package http polls HTTP APIs and posts batches to them.
package http

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
	"github.com/itechsmart/operator/workloads/internal/dialguard"
)

// Request holds what source and sink share.
type Request struct {
	URL     string            `json:"url" jsonschema:"required,minLength=1,maxLength=4096,description=Where to send requests: an http(s) URL; with a connection also a path below the connection's uri."`
	Headers map[string]string `json:"headers,omitempty" jsonschema:"description=Headers of every request. Put credentials into the connection: keys token (bearer); username and password; or header-NAME."`
	Timeout config.Duration   `json:"timeout,omitempty" jsonschema:"default=30s,description=How long one request may take."`
	Retries *int              `json:"retries,omitempty" jsonschema:"default=3,minimum=0,maximum=20,description=How often a request is retried at once after 429 or a server error or a broken connection; Retry-After is honoured. The pipeline's own retries come on top."`
}

// maxRetryAfter limits how long one Retry-After of a server is honoured.
const maxRetryAfter = 2 * time.Minute

// client sends requests to one host.
type client struct {
	http    *retryablehttp.Client
	base    *url.URL
	headers http.Header
	binding backend.Binding
	timeout time.Duration
}

func newClient(request Request, binding backend.Binding) (*client, error) {
	base, err := target(request.URL, binding)
	if err != nil {
		return nil, err
	}
	tlsConfig, err := binding.TLSConfig()
	if err != nil {
		return nil, err
	}
	c := &client{base: base, binding: binding, timeout: time.Duration(request.Timeout)}
	if c.timeout <= 0 {
		c.timeout = 30 * time.Second
	}
	if c.headers, err = headers(request.Headers, binding); err != nil {
		return nil, err
	}
	transport := dialguard.FromEnv().Transport()
	transport.TLSClientConfig = tlsConfig
	c.http = retryablehttp.NewClient()
	c.http.Logger = nil // it would log URLs, whose query may hold a key
	c.http.HTTPClient = &http.Client{Transport: transport, Timeout: c.timeout, CheckRedirect: c.redirect}
	c.http.RetryMax = 3
	if request.Retries != nil {
		c.http.RetryMax = *request.Retries
	}
	c.http.RetryWaitMin, c.http.RetryWaitMax = 200*time.Millisecond, 30*time.Second
	c.http.CheckRetry = checkRetry
	c.http.Backoff = func(lowest, highest time.Duration, attempt int, response *http.Response) time.Duration {
		return min(retryablehttp.DefaultBackoff(lowest, highest, attempt, response), maxRetryAfter)
	}
	// The last response is returned as it is: its status decides.
	c.http.ErrorHandler = retryablehttp.PassthroughErrorHandler
	return c, nil
}

// checkRetry does not retry refused addresses: they stay refused.
func checkRetry(ctx context.Context, response *http.Response, err error) (bool, error) {
	if errors.Is(err, dialguard.ErrRefused) || errors.Is(err, errRedirect) {
		return false, err
	}
	return retryablehttp.DefaultRetryPolicy(ctx, response, err)
}

// target resolves the URL. Credentials of a connection are sent only to its own host.
func target(text string, b backend.Binding) (*url.URL, error) {
	parsed, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("config.url: not a URL: %w", backend.ErrInvalid) // the cause quotes it
	}
	var root *url.URL
	if b.URI != "" {
		if root, err = url.Parse(b.URI); err != nil || root.Host == "" {
			return nil, fmt.Errorf("binding key %q is not an http(s) URL: %w", "uri", backend.ErrInvalid)
		}
		if !parsed.IsAbs() && parsed.Host == "" {
			joined := root.JoinPath(parsed.Path)
			joined.RawQuery = parsed.RawQuery
			parsed = joined
		}
	}
	switch {
	case parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Hostname() == "":
		return nil, fmt.Errorf("config.url: want http://… or https://…: %w", backend.ErrInvalid)
	case parsed.User != nil:
		return nil, fmt.Errorf("config.url: put credentials into a connection: %w", backend.ErrInvalid)
	case root == nil && b.Data()["type"] != "":
		return nil, fmt.Errorf("binding lacks key %q: its credentials are sent only to that host: %w", "uri", backend.ErrInvalid)
	case root != nil && !sameHost(root, parsed):
		return nil, fmt.Errorf("config.url: its host is not the connection's: %w", backend.ErrInvalid)
	}
	parsed.User = nil
	return parsed, nil
}

func sameHost(a, b *url.URL) bool { return a.Scheme == b.Scheme && strings.EqualFold(a.Host, b.Host) }

func headers(configured map[string]string, b backend.Binding) (http.Header, error) {
	out := http.Header{}
	for name, value := range configured {
		if !validHeader(name, value) {
			return nil, fmt.Errorf("config.headers: %q is not a header: %w", name, backend.ErrInvalid)
		}
		out.Set(name, value)
	}
	if token := b.Extra["token"]; token != "" {
		out.Set("Authorization", "Bearer "+token)
	}
	for key, value := range b.Extra {
		name, ok := strings.CutPrefix(key, "header-")
		if !ok {
			continue
		}
		if !validHeader(name, value) {
			return nil, fmt.Errorf("binding key %q is not a header: %w", key, backend.ErrInvalid)
		}
		out.Set(name, value)
	}
	return out, nil
}

func validHeader(name, value string) bool {
	for _, c := range []byte(name) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?={}`, c) >= 0 {
			return false
		}
	}
	return name != "" && !strings.ContainsAny(value, "\r\n\x00") && !strings.EqualFold(name, "Host") && !strings.EqualFold(name, "Content-Length")
}

var errRedirect = errors.New("redirect to another host")

// redirect follows redirects within the host only, because headers with credentials are sent along.
func (c *client) redirect(request *http.Request, via []*http.Request) error {
	if len(via) >= 5 {
		return errors.New("more than 5 redirects")
	}
	if !sameHost(request.URL, c.base) {
		return errRedirect
	}
	return nil
}

// drain is how much of an unread response is read so that the connection can be reused.
const drain = 64 << 10

// do sends one request and returns the response body; more than limit bytes are an error. With limit 0 only the
// status counts.
func (c *client) do(ctx context.Context, method string, at *url.URL, body []byte, extra http.Header, limit int64) ([]byte, http.Header, error) {
	op := method + " " + c.base.Scheme + "://" + c.base.Host + c.base.Path
	var content any
	if body != nil {
		content = body
	}
	request, err := retryablehttp.NewRequestWithContext(ctx, method, at.String(), content)
	if err != nil {
		return nil, nil, c.failed(op, backend.ErrInvalid, err)
	}
	for name, values := range c.headers {
		request.Header[name] = values
	}
	for name, values := range extra {
		if request.Header.Get(name) == "" {
			request.Header[name] = values
		}
	}
	if c.binding.Username != "" && request.Header.Get("Authorization") == "" {
		request.SetBasicAuth(c.binding.Username, c.binding.Password)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, nil, c.failed(op, nil, err)
	}
	defer response.Body.Close() //nolint:errcheck // only read
	data, err := io.ReadAll(io.LimitReader(response.Body, max(limit, drain)+1))
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return nil, nil, c.failed(op, kindOf(response.StatusCode), fmt.Errorf("status %d %s", response.StatusCode, http.StatusText(response.StatusCode)))
	}
	if limit == 0 {
		return nil, response.Header, nil
	}
	if err != nil {
		return nil, nil, c.failed(op, nil, err)
	}
	if int64(len(data)) > limit {
		return nil, nil, c.failed(op, backend.ErrUnavailable, fmt.Errorf("the response is larger than %d bytes", limit))
	}
	return data, response.Header, nil
}

// failed drops the URL that net/http puts into its errors: its query may hold a key.
func (c *client) failed(op string, kind, err error) error {
	var wrapped *url.Error
	for errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	if errors.Is(err, dialguard.ErrRefused) || errors.Is(err, errRedirect) {
		kind = backend.ErrAuth
	}
	text := err
	for _, values := range c.headers {
		for _, value := range values {
			if len(value) > 8 && strings.Contains(text.Error(), value) {
				text = errors.New(strings.ReplaceAll(text.Error(), value, "***"))
			}
		}
	}
	return c.binding.Error(op, kind, text)
}

// kindOf classifies statuses: only those about the content are invalid.
func kindOf(status int) error {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		return backend.ErrAuth
	case http.StatusNotFound, http.StatusGone, http.StatusMethodNotAllowed:
		return backend.ErrNotFound
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusLocked:
		return backend.ErrUnavailable
	}
	if status >= 400 && status < 500 {
		return backend.ErrInvalid
	}
	return backend.ErrUnavailable
}
