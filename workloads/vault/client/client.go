// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-retryablehttp"

	"github.com/itechsmart/operator/internal/backend"
)

const (
	// maxAnswer limits a response: a value in base64, or a page of a list.
	maxAnswer = 8 << 20
	// requestTimeout limits one request, including retries.
	requestTimeout = 30 * time.Second
)

// Options configure a Client.
type Options struct {
	// Endpoint is http(s)://host:port.
	Endpoint string
	// Token returns the bearer token; nil: TokenFromFile(TokenFile).
	Token Token
	// HTTP is shared by the clients of several Vaults; nil: one of its own.
	HTTP *http.Client
}

// HTTPClient returns an http.Client for Options: it follows no redirect, which would send the token elsewhere.
func HTTPClient() *http.Client {
	return &http.Client{
		Timeout: requestTimeout,
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			MaxIdleConnsPerHost: 16, MaxIdleConns: 256, IdleConnTimeout: 90 * time.Second,
			TLSHandshakeTimeout: 5 * time.Second, ResponseHeaderTimeout: requestTimeout,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

type client struct {
	base  string
	token Token
	http  *retryablehttp.Client
}

// New returns a client without connecting; ErrInvalid if the endpoint is not a URL.
func New(options Options) (Client, error) {
	if err := validEndpoint(options.Endpoint); err != nil {
		return nil, err
	}
	if options.Token == nil {
		options.Token = TokenFromFile(TokenFile)
	}
	if options.HTTP == nil {
		options.HTTP = HTTPClient()
	}
	return &client{
		base: strings.TrimSuffix(options.Endpoint, "/") + "/api/v1", token: options.Token,
		http: &retryablehttp.Client{
			HTTPClient: options.HTTP, RetryMax: 2, RetryWaitMin: 100 * time.Millisecond, RetryWaitMax: time.Second,
			Backoff: retryablehttp.DefaultBackoff, CheckRetry: shouldRetry, ErrorHandler: retryablehttp.PassthroughErrorHandler,
		},
	}, nil
}

// shouldRetry retries what the network, a proxy or a restarting server did not answer. 503 and 429 come from the service
// itself: the caller knows better when to retry.
func shouldRetry(ctx context.Context, response *http.Response, err error) (bool, error) {
	switch {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case err != nil:
		return true, nil
	default:
		return response.StatusCode == http.StatusBadGateway || response.StatusCode == http.StatusGatewayTimeout, nil
	}
}

// call is one request.
type call struct {
	op     string // for errors
	method string
	path   string // below /api/v1, escaped
	query  url.Values
	body   any
	open   bool // needs no token
}

func secretPath(p string, more ...string) string {
	return "/secrets/" + url.PathEscape(p) + strings.Join(more, "")
}

func versionPath(p string, version int64, more string) string {
	return secretPath(p, "/versions/", strconv.FormatInt(version, 10), more)
}

// do sends a request, and reads the envelope's data into out; nil discards it.
func (c *client) do(ctx context.Context, what call, out any) error {
	request, err := c.request(ctx, what)
	if err != nil {
		return err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return failed(what.op, nil, err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return failed(what.op, nil, err)
	}
	if len(data) > maxAnswer {
		return failed(what.op, backend.ErrInvalid, fmt.Errorf("the response has more than %d bytes", maxAnswer))
	}
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return refused(what.op, response.StatusCode, data)
	}
	if out == nil {
		return nil
	}
	var envelope struct {
		Success bool            `json:"success"`
		Data    json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(data, &envelope); err != nil || !envelope.Success || len(envelope.Data) == 0 {
		return failed(what.op, backend.ErrUnavailable, errors.New("the response is not from the Vault service: is something else listening there?"))
	}
	if err := json.Unmarshal(envelope.Data, out); err != nil {
		// The decoder's error could quote a value.
		return failed(what.op, backend.ErrUnavailable, errors.New("the response data does not have the expected fields"))
	}
	return nil
}

func (c *client) request(ctx context.Context, what call) (*retryablehttp.Request, error) {
	target := c.base + what.path
	if len(what.query) > 0 {
		target += "?" + what.query.Encode()
	}
	var body any
	if what.body != nil {
		data, err := json.Marshal(what.body)
		if err != nil {
			return nil, failed(what.op, backend.ErrInvalid, errors.New("the request cannot be encoded as JSON"))
		}
		body = bytes.NewReader(data)
	}
	request, err := retryablehttp.NewRequestWithContext(ctx, what.method, target, body)
	if err != nil {
		return nil, failed(what.op, backend.ErrInvalid, err)
	}
	request.Header.Set("Accept", "application/json")
	if what.body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if what.method == http.MethodPost {
		// All retries of the request share one key: the service does it once.
		request.Header.Set("Idempotency-Key", uuid.NewString())
	}
	if !what.open {
		token, err := c.token(ctx)
		if err != nil {
			return nil, failed(what.op, backend.ErrAuth, err)
		}
		request.Header.Set("Authorization", "Bearer "+token)
	}
	return request, nil
}

// failed wraps a sentinel, as every backend does.
func failed(op string, kind, cause error) error {
	return backend.Binding{}.Error("vault: "+op, kind, cause)
}

// refused turns an error envelope into a sentinel with the service's message.
func refused(op string, status int, data []byte) error {
	var envelope struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	message := http.StatusText(status)
	if json.Unmarshal(data, &envelope) == nil && envelope.Error.Message != "" {
		message = envelope.Error.Message
	}
	const longest = 500
	if len(message) > longest {
		message = strings.ToValidUTF8(message[:longest], "") + "…"
	}
	return failed(op, kindOf(status, envelope.Error.Code), fmt.Errorf("%s (HTTP %d)", message, status))
}

func kindOf(status int, code string) error {
	switch {
	case strings.EqualFold(code, "sealed"):
		return ErrSealed
	case code == CodeStreamed:
		return ErrStreamed
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return backend.ErrAuth
	case status == http.StatusNotFound, status == http.StatusGone:
		return backend.ErrNotFound
	case status == http.StatusConflict:
		return backend.ErrExists
	case status == http.StatusPreconditionFailed:
		return ErrStale
	case status == http.StatusTooManyRequests, status == http.StatusRequestTimeout, status >= 500, status < 400:
		return backend.ErrUnavailable
	default:
		return backend.ErrInvalid
	}
}
