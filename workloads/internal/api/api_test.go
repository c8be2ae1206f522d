// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/itechsmart/operator/workloads/internal/api"
)

func TestSuccess(t *testing.T) {
	s := serve(t, nil)
	created := s.do(t, http.MethodPost, "/api/v1/notes", `{"name":"a","text":"hello","data":"AAEC"}`)
	if created.status != http.StatusCreated || created.header.Get("ETag") != `"1"` || created.header.Get("Content-Type") != "application/json" {
		t.Fatalf("%d %v %s", created.status, created.header, created.body)
	}
	var stored note
	s.do(t, http.MethodGet, "/api/v1/notes/a", "").data(t, &stored)
	if stored.Text != "hello" || string(stored.Data) != "\x00\x01\x02" || stored.Version != 1 {
		t.Errorf("got %+v", stored)
	}
	if empty := s.do(t, http.MethodPut, "/api/v1/notes/a", `{"name":"a","text":"","data":""}`); empty.status != http.StatusOK {
		t.Errorf("empty bytes: %d %s", empty.status, empty.body)
	}
	if deleted := s.do(t, http.MethodDelete, "/api/v1/notes/a", ""); deleted.status != http.StatusNoContent || deleted.body != "" {
		t.Errorf("delete: %d %q", deleted.status, deleted.body)
	}
	bare := s.do(t, http.MethodGet, "/api/v1/bare", "")
	if err := json.Unmarshal([]byte(bare.body), &stored); err != nil || stored.Name != "bare" {
		t.Errorf("a response without envelope: %s", bare.body)
	}
}

func TestErrors(t *testing.T) {
	s := serve(t, nil)
	s.do(t, http.MethodPost, "/api/v1/notes", `{"name":"taken","text":""}`)
	const json = "application/json"
	for name, c := range map[string]struct {
		method, path, body, contentType string
		status                          int
		code, field                     string
	}{
		"unknown path":         {"GET", "/api/v1/canary", "", "", 404, "not_found", ""},
		"unknown method":       {"PATCH", "/api/v1/notes", "", "", 405, "method_not_allowed", ""},
		"missing":              {"GET", "/api/v1/notes/canary", "", "", 404, "not_found", ""},
		"taken":                {"POST", "/api/v1/notes", `{"name":"taken","text":"canary"}`, json, 409, "conflict", ""},
		"no JSON":              {"POST", "/api/v1/notes", `canary`, json, 400, "bad_request", "body"},
		"no body":              {"POST", "/api/v1/notes", "", json, 400, "bad_request", ""},
		"trailing data":        {"POST", "/api/v1/notes", `{"name":"a","text":"canary"} {}`, json, 400, "bad_request", "body"},
		"duplicate key":        {"POST", "/api/v1/notes", `{"name":"a","name":"canary","text":""}`, json, 400, "bad_request", "body"},
		"escaped duplicate":    {"POST", "/api/v1/notes", `{"name":"a","n\u0061me":"canary","text":""}`, json, 400, "bad_request", "body"},
		"duplicate, in a map":  {"POST", "/api/v1/notes", `{"name":"a","text":"","labels":{"canary":"1","canary":"2"}}`, json, 400, "bad_request", "body"},
		"a map's key":          {"POST", "/api/v1/notes", `{"name":"a","text":"","labels":{"canary":1}}`, json, 422, "invalid", "body.labels.*"},
		"a map's odd key":      {"POST", "/api/v1/notes", `{"name":"a","text":"","labels":{"name[canary].text":1}}`, json, 422, "invalid", "body.labels.*"},
		"other case":           {"POST", "/api/v1/notes", `{"name":"a","NAME":"canary","text":""}`, json, 422, "invalid", "body.*"},
		"unknown key":          {"POST", "/api/v1/notes", `{"name":"a","text":"","canary":1}`, json, 422, "invalid", "body.*"},
		"read-only":            {"POST", "/api/v1/notes", `{"name":"canary canary","text":"","version":7}`, json, 422, "invalid", "body.name"},
		"wrong type":           {"POST", "/api/v1/notes", `{"name":["canary"],"text":""}`, json, 422, "invalid", "body.name"},
		"pattern":              {"POST", "/api/v1/notes", `{"name":"Canary!","text":""}`, json, 422, "invalid", "body.name"},
		"format":               {"POST", "/api/v1/notes", `{"name":"a","text":"","address":"canary"}`, json, 422, "invalid", "body.address"},
		"base64":               {"POST", "/api/v1/notes", `{"name":"a","text":"","data":"canary!"}`, json, 422, "invalid", "body.data"},
		"base64 of URLs":       {"POST", "/api/v1/notes", `{"name":"a","text":"","data":"canary-_"}`, json, 422, "invalid", "body.data"},
		"base64, cut":          {"POST", "/api/v1/notes", `{"name":"a","text":"","data":"canar"}`, json, 422, "invalid", "body"},
		"U+0000":               {"POST", "/api/v1/notes", `{"name":"a","text":"canary\u0000"}`, json, 400, "bad_request", "body"},
		"broken UTF-8":         {"POST", "/api/v1/notes", "{\"name\":\"a\",\"text\":\"canary\xff\"}", json, 400, "bad_request", "body"},
		"huge number":          {"POST", "/api/v1/notes", `{"name":"a","text":1e999}`, json, 400, "bad_request", "body"},
		"text/plain":           {"POST", "/api/v1/notes", `{"name":"a","text":"canary"}`, "text/plain", 415, "content_type", "body"},
		"a form":               {"POST", "/api/v1/notes", `name=canary`, "application/x-www-form-urlencoded", 415, "content_type", "body"},
		"no content type":      {"POST", "/api/v1/notes", `{"name":"a","text":"canary"}`, "", 415, "content_type", "body"},
		"Latin 1":              {"POST", "/api/v1/notes", `{"name":"a","text":"canary"}`, "application/json; charset=latin1", 415, "content_type", "body"},
		"limit":                {"GET", "/api/v1/notes?limit=canary", "", "", 422, "invalid", "query.limit"},
		"limit of 0":           {"GET", "/api/v1/notes?limit=0", "", "", 422, "invalid", "query.limit"},
		"huge limit":           {"GET", "/api/v1/notes?limit=99999999999999999999", "", "", 422, "invalid", "query.limit"},
		"unknown parameter":    {"GET", "/api/v1/notes?canary=1", "", "", 422, "invalid", "query.*"},
		"cursor":               {"GET", "/api/v1/notes?cursor=canary", "", "", 400, "invalid_cursor", "query.cursor"},
		"NUL in a query":       {"GET", "/api/v1/notes?prefix=canary%00", "", "", 400, "invalid_query", ""},
		"broken query":         {"GET", "/api/v1/notes?prefix=%zzcanary", "", "", 400, "invalid_query", ""},
		"broken UTF-8, query":  {"GET", "/api/v1/notes?prefix=canary%ff", "", "", 400, "invalid_query", ""},
		"NUL in a path":        {"GET", "/api/v1/notes/canary%00", "", "", 400, "invalid_path", ""},
		"broken UTF-8, path":   {"GET", "/api/v1/notes/canary%ff", "", "", 400, "invalid_path", ""},
		"dot segments":         {"GET", "/api/v1/../../canary", "", "", 400, "invalid_path", ""},
		"a failure of ours":    {"POST", "/api/v1/fail", "", "", 500, "internal", ""},
		"a long path segment":  {"GET", "/api/v1/notes/" + strings.Repeat("canary", 10), "", "", 422, "invalid", "path.name"},
		"depth of 65":          {"POST", "/api/v1/notes", nested(65), json, 400, "bad_request", "body"},
		"depth of 10,000":      {"POST", "/api/v1/notes", nested(10000), json, 400, "bad_request", "body"},
		"depth that is opened": {"POST", "/api/v1/notes", strings.Repeat(`{"a":`, 100000), json, 400, "bad_request", "body"},
	} {
		t.Run(name, func(t *testing.T) {
			got := s.do(t, c.method, c.path, c.body, "Content-Type", c.contentType)
			code, details := got.problem(t)
			field := ""
			if len(details) > 0 {
				field = details[0].Field
			}
			if got.status != c.status || code != c.code || field != c.field {
				t.Errorf("got %d %s %q, want %d %s %q: %s", got.status, code, field, c.status, c.code, c.field, got.body)
			}
			if lower := strings.ToLower(got.body); strings.Contains(lower, "canary") || strings.Contains(lower, "hunter2") {
				t.Errorf("the response contains the input, or a secret: %s", got.body)
			}
		})
	}
	if !strings.Contains(s.log.String(), "hunter2") {
		t.Error("the log lacks the cause of a failed request")
	}
}

func nested(depth int) string {
	return strings.Repeat("[", depth) + strings.Repeat("]", depth)
}

func TestProblem(t *testing.T) {
	s := serve(t, nil)
	for accept, problem := range map[string]bool{
		"":                         false,
		"*/*":                      false,
		"application/json":         false,
		"text/html":                false,
		"application/problem+json": true,
		"application/json, application/problem+json":             true,
		"application/problem+json;q=0.1, application/json":       false,
		"application/problem+json;q=0":                           false,
		"application/json;q=0.5, Application/Problem+JSON;q=0.9": true,
	} {
		for _, path := range []string{"/api/v1/notes/missing", "/missing"} {
			got := s.do(t, http.MethodGet, path, "", "Accept", accept)
			contentType, want := got.header.Get("Content-Type"), "application/json"
			if problem {
				want = "application/problem+json"
			}
			if got.status != http.StatusNotFound || contentType != want {
				t.Errorf("Accept %q, %s: %d %s, want %s", accept, path, got.status, contentType, want)
			}
			if !problem {
				got.problem(t)
				continue
			}
			var body map[string]any
			if err := json.Unmarshal([]byte(got.body), &body); err != nil || body["title"] != "Not Found" || body["status"] != 404.0 ||
				body["type"] != "about:blank" || body["code"] != "not_found" || body["detail"] == "" {
				t.Errorf("%s is not a problem of RFC 9457", got.body)
			}
		}
	}
}

func TestPages(t *testing.T) {
	s := serve(t, nil)
	for _, name := range []string{"a", "ab", "abc", "b", "c"} {
		s.do(t, http.MethodPost, "/api/v1/notes", `{"name":"`+name+`","text":""}`)
	}
	var names []string
	cursor := ""
	for range 10 {
		var page api.List[note]
		s.do(t, http.MethodGet, "/api/v1/notes?limit=2&prefix=a&cursor="+cursor, "").data(t, &page)
		for _, n := range page.Items {
			names = append(names, n.Name)
		}
		if cursor = page.Next; cursor == "" {
			break
		}
		if other := s.do(t, http.MethodGet, "/api/v1/notes?limit=2&prefix=b&cursor="+cursor, ""); other.status != http.StatusBadRequest {
			t.Errorf("a cursor of another filter: %d", other.status)
		}
	}
	if strings.Join(names, " ") != "a ab abc" {
		t.Errorf("got %v", names)
	}
}

func TestIfMatch(t *testing.T) {
	s := serve(t, nil)
	s.do(t, http.MethodPost, "/api/v1/notes", `{"name":"a","text":"1"}`)
	for _, c := range []struct {
		header string
		status int
	}{
		{`"2"`, 412}, {`"1"`, 200}, {`"1"`, 412}, {`*`, 200}, {``, 200}, {`W/"4"`, 412}, {`"1", "4"`, 400}, {`4`, 400}, {`"04"`, 400}, {`"-1"`, 400}, {`"99999999999999999999"`, 400},
	} {
		got := s.do(t, http.MethodPut, "/api/v1/notes/a", `{"name":"a","text":"2"}`, "If-Match", c.header)
		if got.status != c.status {
			t.Errorf("If-Match %s: %d, want %d: %s", c.header, got.status, c.status, got.body)
		}
	}
	if api.NoneMatch(`"3", W/"4"`, 4) || api.NoneMatch("*", 4) || !api.NoneMatch(`"3"`, 4) || !api.NoneMatch("", 4) {
		t.Error("If-None-Match is parsed wrongly")
	}
}
