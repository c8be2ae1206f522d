// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/step"
)

const (
	userAgent      = "itechsmart-workflow"
	keyHeader      = "Idempotency-Key"
	maxTimeout     = time.Hour
	defaultTimeout = 30 * time.Second
	defaultBytes   = 1 << 20
	maxBytes       = 64 << 20
)

// methods are the valid methods. Those that write have the idempotency key.
var methods = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions}

func writes(method string) bool {
	return method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch || method == http.MethodDelete
}

// request is a parsed `with`.
type request struct {
	name       string // for errors: method and host
	method     string
	url        *url.URL
	headers    http.Header
	body       []byte
	timeout    time.Duration
	expect     []int // statuses, and classes from 1 to 5
	maxBytes   int64
	connection string
	binding    backend.Binding
	secrets    []string
	now        func() time.Time
}

func read(values map[string]any, env step.Env) (*request, error) {
	config := step.Read(values)
	r := &request{now: env.Now, headers: http.Header{}}
	text := config.Required("url")
	r.method = config.OneOf("method", methods...)
	r.setHeaders(config)
	query := config.Texts("query")
	r.setBody(config)
	r.timeout = config.Duration("timeout", defaultTimeout, maxTimeout)
	r.setExpect(config)
	r.maxBytes = int64(config.Int("maxResponseBytes", defaultBytes, 1, maxBytes))
	r.connection = config.Text("connection", "")
	if err := config.Err(); err != nil {
		return nil, err
	}
	if r.connection != "" {
		var err error
		if r.binding, err = env.Connect(r.connection); err != nil {
			return nil, err
		}
	}
	var problem string
	if r.url, problem = target(text, r.connection, r.binding); problem != "" {
		return nil, step.Refuse("with.url: %s", problem)
	}
	r.name = r.method + " " + r.url.Scheme + "://" + r.url.Host
	if len(query) > 0 {
		given := r.url.Query()
		for name, value := range query {
			given.Set(name, value)
		}
		r.url.RawQuery = given.Encode()
	}
	return r, r.authorize()
}

func (r *request) setHeaders(config *step.Config) {
	for name, value := range config.Texts("headers") {
		if !validHeader(name, value) {
			config.Problem("headers", "%q is not a valid header for a step", name)
			continue
		}
		r.headers.Set(name, value)
	}
}

func (r *request) setBody(config *step.Config) {
	value, ok := config.Any("body")
	if !ok || value == nil {
		return
	}
	if text, ok := value.(string); ok {
		r.body = []byte(text)
		return
	}
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		config.Problem("body", "cannot be encoded as JSON")
		return
	}
	r.body = bytes.TrimSuffix(buffer.Bytes(), []byte("\n"))
	if r.headers.Get("Content-Type") == "" {
		r.headers.Set("Content-Type", "application/json")
	}
}

// setExpect parses statuses such as 200 and classes such as "2xx".
func (r *request) setExpect(config *step.Config) {
	for _, item := range config.List("expect") {
		if n, ok := step.Whole(item); ok && n >= 100 && n <= 599 {
			r.expect = append(r.expect, int(n))
			continue
		}
		text, _ := item.(string)
		if len(text) != 3 || text[0] < '1' || text[0] > '5' || strings.ToLower(text[1:]) != "xx" {
			config.Problem("expect", `want statuses such as 200, or classes such as "2xx"`)
			continue
		}
		r.expect = append(r.expect, int(text[0]-'0'))
	}
	if len(r.expect) == 0 {
		r.expect = []int{2}
	}
}

// target resolves the URL. With a connection, its host must be the connection's, so that credentials are sent only there.
func target(text, connection string, b backend.Binding) (at *url.URL, problem string) {
	parsed, err := url.Parse(text)
	if err != nil {
		return nil, "is not a URL" // the cause quotes it
	}
	if connection != "" {
		root, err := url.Parse(b.URI)
		if err != nil || root.Host == "" {
			return nil, "the connection has no key uri: credentials are only sent to that host"
		}
		if !parsed.IsAbs() && parsed.Host == "" {
			joined := root.JoinPath(parsed.Path)
			joined.RawQuery, joined.User = parsed.RawQuery, nil
			parsed = joined
		}
		if !sameHost(root, parsed) {
			return nil, "the host must be the connection's"
		}
	}
	switch {
	case parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Hostname() == "":
		return nil, "want http://… or https://…"
	case parsed.User != nil:
		return nil, "credentials belong in a connection"
	}
	return parsed, ""
}

// validHeader rejects invalid headers, and those that the transport sets.
func validHeader(name, value string) bool {
	for _, c := range []byte(name) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?={}`, c) >= 0 {
			return false
		}
	}
	for _, c := range []byte(value) {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return name != "" && !slices.Contains([]string{"host", "content-length", "transfer-encoding", "connection", "trailer", "upgrade", "te"}, strings.ToLower(name))
}

// authorize adds the connection's credentials, and records the secrets to hide.
func (r *request) authorize() error {
	b := r.binding
	if token := b.Extra["token"]; token != "" {
		if !validHeader("Authorization", token) {
			return step.Refuse("with.connection: %q: key token is not a valid token", r.connection)
		}
		r.headers.Set("Authorization", "Bearer "+token)
		r.secrets = append(r.secrets, token)
	} else if b.Username != "" {
		basic := base64.StdEncoding.EncodeToString([]byte(b.Username + ":" + b.Password))
		r.headers.Set("Authorization", "Basic "+basic)
		r.secrets = append(r.secrets, basic, b.Password)
	}
	for key, value := range b.Extra {
		name, ok := strings.CutPrefix(key, "header-")
		if !ok {
			continue
		}
		if !validHeader(name, value) {
			return step.Refuse("with.connection: %q: key %s is not a valid header", r.connection, key)
		}
		r.headers.Set(name, value)
		r.secrets = append(r.secrets, value)
	}
	return nil
}

func (r *request) request(ctx context.Context, key string) (*http.Request, error) {
	made, err := http.NewRequestWithContext(ctx, r.method, r.url.String(), nil)
	if err != nil {
		return nil, step.Refuse("with.url: is not a URL")
	}
	if r.body != nil {
		made.Body, made.ContentLength = body(r.body), int64(len(r.body))
		made.GetBody = bodyAgain(r.body)
	}
	made.Header = r.headers.Clone()
	if made.Header.Get("User-Agent") == "" {
		made.Header.Set("User-Agent", userAgent)
	}
	if writes(r.method) && made.Header.Get(keyHeader) == "" {
		made.Header.Set(keyHeader, key)
	}
	return made, nil
}
