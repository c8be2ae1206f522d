// SPDX-License-Identifier: Apache-2.0

// Package client calls a Vault's REST API for the command line.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxAnswer limits a response in bytes: a value of 1 MiB in base64 and its envelope.
const maxAnswer = 8 << 20

// ErrLogin means that there is no token, or it has expired.
var ErrLogin = errors.New("not logged in: run `vaultctl login`")

// Client calls one Vault.
type Client struct {
	base string
	http *http.Client
	// streams is for large transfers without a timeout; the context ends them.
	streams *http.Client
	// token is called before each request; "" sends none.
	token func(context.Context) (string, error)
}

// New returns a client of the service at server, such as https://vault.example.com. token may be nil.
func New(server string, token func(context.Context) (string, error)) (*Client, error) {
	u, err := url.Parse(server)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.User != nil {
		return nil, errors.New("the server must be a URL such as https://vault.example.com")
	}
	// A redirect would send the token elsewhere.
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{
		base: strings.TrimSuffix(u.String(), "/") + "/api/v1", token: token,
		http:    &http.Client{Timeout: time.Minute, CheckRedirect: stay},
		streams: &http.Client{CheckRedirect: stay},
	}, nil
}

// Error is an error response of the service.
type Error struct {
	Status  int
	Code    string `json:"code"`
	Message string `json:"message"`
	Details []struct {
		Field   string `json:"field"`
		Message string `json:"message"`
	} `json:"details"`
}

// Error implements error.
func (e *Error) Error() string {
	text := e.Message
	if text == "" {
		text = http.StatusText(e.Status)
	}
	for _, d := range e.Details {
		text += "; " + strings.TrimPrefix(d.Field+": ", ": ") + d.Message
	}
	return fmt.Sprintf("%s (%d %s)", text, e.Status, e.Code)
}

// Call sends in as JSON (nil: no body) and reads the response's data into out (nil: discarded).
func (c *Client) Call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
		body = bytes.NewReader(data)
	}
	header := http.Header{}
	if body != nil {
		header.Set("Content-Type", "application/json")
	}
	response, err := c.do(ctx, c.http, method, path, query, body, header)
	if err != nil {
		return err
	}
	return data(response, out)
}

// data reads a response's data into out (nil: discarded).
func data(response *http.Response, out any) error {
	defer response.Body.Close()
	envelope := struct {
		Data any `json:"data"`
	}{out}
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(&envelope); err != nil {
		return fmt.Errorf("%s %s: the response is not JSON of a Vault: %w", response.Request.Method, response.Request.URL.Path, err)
	}
	return nil
}

// Stream copies a response that is not a JSON document to out; one that ends early is an error.
func (c *Client) Stream(ctx context.Context, path string, query url.Values, out io.Writer) error {
	response, err := c.do(ctx, c.streams, http.MethodGet, path, query, nil, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(out, response.Body); err != nil {
		return fmt.Errorf("GET %s: %w", path, err)
	}
	return nil
}

// Upload sends a body as a stream with header, and reads the response's data into out.
func (c *Client) Upload(ctx context.Context, path string, query url.Values, header http.Header, body io.Reader, out any) error {
	header = header.Clone()
	header.Set("Content-Type", "application/octet-stream")
	response, err := c.do(ctx, c.streams, http.MethodPut, path, query, body, header)
	if err != nil {
		return err
	}
	return data(response, out)
}

// Token is the response of POST /token.
type Token struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	ExpiresIn    int64  `json:"expires_in"`
}

// Grant requests a token (RFC 6749).
func (c *Client) Grant(ctx context.Context, form url.Values) (Token, error) {
	var token Token
	response, err := c.send(ctx, c.http, http.MethodPost, "/token", nil, strings.NewReader(form.Encode()), formHeader())
	if err != nil {
		return token, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return token, fmt.Errorf("POST /token: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return token, oauthError(response.StatusCode, data)
	}
	if err := json.Unmarshal(data, &token); err != nil || token.AccessToken == "" {
		return token, errors.New("POST /token: the response contains no token")
	}
	return token, nil
}

func formHeader() http.Header {
	return http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
}

// oauthError reads RFC 6749's error, or the service's own.
func oauthError(status int, data []byte) error {
	var oauth struct {
		Error       json.RawMessage `json:"error"`
		Description string          `json:"error_description"`
	}
	if json.Unmarshal(data, &oauth) == nil {
		var code string
		if json.Unmarshal(oauth.Error, &code) == nil {
			return &Error{Status: status, Code: code, Message: oauth.Description}
		}
		e := &Error{Status: status}
		if json.Unmarshal(oauth.Error, e) == nil {
			return e
		}
	}
	return &Error{Status: status}
}

func (c *Client) do(ctx context.Context, by *http.Client, method, path string, query url.Values, body io.Reader, header http.Header) (*http.Response, error) {
	if header == nil {
		header = http.Header{}
	}
	if c.token != nil {
		token, err := c.token(ctx)
		if err != nil {
			return nil, err
		}
		if token != "" {
			header.Set("Authorization", "Bearer "+token)
		}
	}
	response, err := c.send(ctx, by, method, path, query, body, header)
	if err != nil {
		return nil, err
	}
	if response.StatusCode < 300 {
		return response, nil
	}
	defer response.Body.Close()
	var envelope struct {
		Error Error `json:"error"`
	}
	// A response that is not the service's own, such as a proxy's, leaves only the status.
	_ = json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&envelope)
	envelope.Error.Status = response.StatusCode
	if response.StatusCode == http.StatusUnauthorized {
		return nil, fmt.Errorf("%w: %w", ErrLogin, &envelope.Error)
	}
	return nil, &envelope.Error
}

func (c *Client) send(ctx context.Context, by *http.Client, method, path string, query url.Values, body io.Reader, header http.Header) (*http.Response, error) {
	target := c.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	request.Header = header
	request.Header.Set("User-Agent", "vaultctl")
	response, err := by.Do(request)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // the URL is said below, without its query
		}
		return nil, fmt.Errorf("%s %s: %w", method, c.base+path, err)
	}
	return response, nil
}

// Revoke revokes a refresh token and the tokens derived from it (RFC 7009).
func (c *Client) Revoke(ctx context.Context, token string) error {
	form := url.Values{"token": {token}, "token_type_hint": {"refresh_token"}}
	response, err := c.send(ctx, c.http, http.MethodPost, "/revoke", nil, strings.NewReader(form.Encode()), formHeader())
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode >= 300 {
		return &Error{Status: response.StatusCode, Code: "revoke"}
	}
	return nil
}
