// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bytes"
	"encoding/base64"
	"io"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/itechsmart/operator/workloads/workflow/internal/steps/step"
)

func body(data []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(data)) }

func bodyAgain(data []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return body(data), nil }
}

// output returns the response as {status, headers, body}. A binary body is encoded in base64, and field encoding is set.
func (r *request) output(response *http.Response, data []byte) map[string]any {
	headers := map[string]any{}
	for name, values := range response.Header {
		headers[strings.ToLower(name)] = strings.ToValidUTF8(r.hide(strings.Join(values, ", ")), "�")
	}
	out := map[string]any{"status": int64(response.StatusCode), "headers": headers, "body": nil}
	if len(data) == 0 {
		return out
	}
	if !utf8.Valid(data) {
		out["body"], out["encoding"] = base64.StdEncoding.EncodeToString(data), "base64"
		return out
	}
	text := r.hide(string(data))
	if isJSON(text, response.Header.Get("Content-Type")) {
		if value, err := step.Decode([]byte(text)); err == nil {
			out["body"] = value
			return out
		}
	}
	out["body"] = text
	return out
}

// isJSON decides by the content type, or by the start of the text if the type is generic.
func isJSON(text, contentType string) bool {
	kind, _, _ := mime.ParseMediaType(contentType)
	switch {
	case kind == "application/json" || kind == "text/json" || strings.HasSuffix(kind, "+json"):
		return true
	case kind == "" || kind == "text/plain" || kind == "application/octet-stream":
		text = strings.TrimLeft(text, " \t\r\n")
		return strings.HasPrefix(text, "{") || strings.HasPrefix(text, "[")
	}
	return false
}

// hide removes the connection's secrets from a server's text.
func (r *request) hide(text string) string {
	for _, secret := range r.secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "***")
		}
	}
	return text
}

// printable returns the start of an error response on one line. HTML pages are left out.
func (r *request) printable(data []byte, contentType string) string {
	kind, _, _ := mime.ParseMediaType(contentType)
	if kind == "text/html" || !utf8.Valid(data) {
		return ""
	}
	text := strings.Join(strings.Fields(r.hide(string(data))), " ")
	if len(text) > shown {
		text = text[:shown] + "…"
	}
	return strings.ToValidUTF8(text, "")
}
