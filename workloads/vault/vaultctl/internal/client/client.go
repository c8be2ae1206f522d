// SPDX-License-Identifier: Apache-2.0

// Package client speaks to a Vault's REST API for the command line.
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

// maxAnswer bounds what is read of an answer in bytes: a value of 1 MiB in base64 and what is around it.
const maxAnswer = 8 << 20

// ErrLogin tells that there is no token, or it has expired.
var ErrLogin = errors.New("not logged in: run `vaultctl login`")

// Client calls one Vault.
type Client struct {
	base string
	http *http.Client
	// token is asked before each call; "" sends none.
	token func(context.Context) (string, error)
}

// New is a client of the service at server, such as https://vault.example.com. token may be nil.
func New(server string, token func(context.Context) (string, error)) (*Client, error) {
	u, err := url.Parse(server)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.User != nil {
		return nil, errors.New("the server is no URL such as https://vault.example.com")
	}
	return &Client{
		base: strings.TrimSuffix(u.String(), "/") + "/api/v1",
		http: &http.Client{
			Timeout: time.Minute,
			// A redirect would carry the token elsewhere.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		token: token,
	}, nil
}

// Error is what the service answers in place of data.
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

// Call sends in as JSON (nil: no body) and reads the answer's data into out (nil: it is not wanted).
func (c *Client) Call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
		body = bytes.NewReader(data)
	}
	response, err := c.do(ctx, method, path, query, body, "application/json")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	envelope := struct {
		Data any `json:"data"`
	}{out}
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(&envelope); err != nil {
		return fmt.Errorf("%s %s: the answer is no JSON of a Vault: %w", method, path, err)
	}
	return nil
}

// Stream copies an answer that is no JSON document to out.
func (c *Client) Stream(ctx context.Context, path string, out io.Writer) error {
	response, err := c.do(ctx, http.MethodGet, path, nil, nil, "")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(out, response.Body); err != nil {
		return fmt.Errorf("GET %s: %w", path, err)
	}
	return nil
}

// Token is what POST /token answers.
type Token struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	ExpiresIn    int64  `json:"expires_in"`
}

// Grant asks for a token (RFC 6749).
func (c *Client) Grant(ctx context.Context, form url.Values) (Token, error) {
	var token Token
	response, err := c.send(ctx, http.MethodPost, "/token", nil, strings.NewReader(form.Encode()), "application/x-www-form-urlencoded", "")
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
		return token, errors.New("POST /token: the answer holds no token")
	}
	return token, nil
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

func (c *Client) do(ctx context.Context, method, path string, query url.Values, body io.Reader, contentType string) (*http.Response, error) {
	token := ""
	if c.token != nil {
		var err error
		if token, err = c.token(ctx); err != nil {
			return nil, err
		}
	}
	response, err := c.send(ctx, method, path, query, body, contentType, token)
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
	// An answer that is not the service's own, such as a proxy's, leaves the status.
	_ = json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&envelope)
	envelope.Error.Status = response.StatusCode
	if response.StatusCode == http.StatusUnauthorized {
		return nil, fmt.Errorf("%w: %w", ErrLogin, &envelope.Error)
	}
	return nil, &envelope.Error
}

func (c *Client) send(ctx context.Context, method, path string, query url.Values, body io.Reader, contentType, token string) (*http.Response, error) {
	target := c.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	request.Header.Set("User-Agent", "vaultctl")
	if contentType != "" && body != nil {
		request.Header.Set("Content-Type", contentType)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := c.http.Do(request)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // the URL is said below, without its query
		}
		return nil, fmt.Errorf("%s %s: %w", method, c.base+path, err)
	}
	return response, nil
}

// Revoke ends a refresh token and what came of it (RFC 7009).
func (c *Client) Revoke(ctx context.Context, token string) error {
	form := url.Values{"token": {token}, "token_type_hint": {"refresh_token"}}
	response, err := c.send(ctx, http.MethodPost, "/revoke", nil, strings.NewReader(form.Encode()), "application/x-www-form-urlencoded", "")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode >= 300 {
		return &Error{Status: response.StatusCode, Code: "revoke"}
	}
	return nil
}
