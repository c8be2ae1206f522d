// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

func TestDocument(t *testing.T) {
	s := serve(t, nil)
	got := s.do(t, http.MethodGet, "/openapi.json", "")
	var document struct {
		OpenAPI    string
		Paths      map[string]map[string]struct{ Responses map[string]map[string]any }
		Components struct{ Schemas map[string]any }
	}
	if err := json.Unmarshal([]byte(got.body), &document); err != nil || document.OpenAPI != "3.1.0" {
		t.Fatalf("%v: %s", err, got.body)
	}
	want := map[string]string{
		"get /api/v1/notes":           "200 400 401 403 413 415 422 429 500 503",
		"post /api/v1/notes":          "201 400 401 403 408 409 413 415 422 429 500 503",
		"get /api/v1/notes/{name}":    "200 400 401 403 404 413 415 422 429 500 503",
		"put /api/v1/notes/{name}":    "200 400 401 403 404 408 412 413 415 422 429 500 503",
		"get /api/v1/trees/{path}":    "200 400 401 403 404 413 415 422 429 500 503",
		"delete /api/v1/notes/{name}": "204 400 401 403 404 413 415 422 429 500 503",
	}
	for operation, statuses := range want {
		method, path, _ := strings.Cut(operation, " ")
		responses := document.Paths[path][method].Responses
		for status := range strings.SplitSeq(statuses, " ") {
			if responses[status] == nil {
				t.Errorf("%s does not document %s", operation, status)
			}
		}
		if n := strings.Count(statuses, " ") + 1; len(responses) != n {
			t.Errorf("%s documents %d responses, want %d", operation, len(responses), n)
		}
	}
	// Every reference resolves, and huma's own errors are gone.
	for _, match := range regexp.MustCompile(`#/components/schemas/(\w+)`).FindAllStringSubmatch(got.body, -1) {
		if document.Components.Schemas[match[1]] == nil {
			t.Errorf("schema %s is missing", match[1])
		}
	}
	if document.Components.Schemas["ErrorModel"] != nil {
		t.Error("huma's errors are documented, which no operation returns")
	}

	if !strings.Contains(got.body, `"contentEncoding": "base64"`) {
		t.Error("bytes are not documented as base64")
	}

	asYAML := s.do(t, http.MethodGet, "/openapi.yaml", "")
	converted, err := yaml.YAMLToJSON([]byte(asYAML.body))
	if err != nil {
		t.Fatal(err)
	}
	var a, b map[string]any
	if err := json.Unmarshal(converted, &a); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(got.body), &b); err != nil {
		t.Fatal(err)
	}
	if len(a["paths"].(map[string]any)) != len(b["paths"].(map[string]any)) {
		t.Error("the YAML differs from the JSON")
	}
}

func TestReaderPage(t *testing.T) {
	s := serve(t, nil)
	page := s.do(t, http.MethodGet, "/docs", "")
	if page.status != http.StatusOK || !strings.HasPrefix(page.header.Get("Content-Type"), "text/html") {
		t.Fatalf("%d %s", page.status, page.header.Get("Content-Type"))
	}
	if match := regexp.MustCompile(`(?i)<script|https?://|src=|@import`).FindString(page.body); match != "" {
		t.Errorf("the page loads something from elsewhere: %s", match)
	}
	if policy := page.header.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'; style-src 'sha256-") {
		t.Errorf("policy %s", policy)
	}
	for _, text := range []string{"<code>/api/v1/notes/{name}</code>", `items[].labels`, "422 Unprocessable Entity", "Idempotency-Key", "List notes"} {
		if !strings.Contains(page.body, text) {
			t.Errorf("the page lacks %s", text)
		}
	}
}
