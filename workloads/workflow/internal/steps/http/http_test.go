// SPDX-License-Identifier: Apache-2.0

package http_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/workflow/internal/engine"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/step"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/steptest"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}

func serve(t testing.TB, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server
}

// echo responds with the request.
func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body) // a test server
	headers := map[string]string{}
	for name := range r.Header {
		headers[name] = r.Header.Get(name)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Seen", r.Header.Get("Authorization"))
	if status := r.URL.Query().Get("status"); status != "" {
		code := 0
		_, _ = fmt.Sscan(status, &code)
		w.WriteHeader(code)
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"method": r.Method, "path": r.URL.Path, "query": r.URL.RawQuery, "headers": headers, "body": string(body)})
}

func newSet(t testing.TB, env step.Env) *steps.Set {
	t.Helper()
	if env.Private == nil {
		env.Private = loopback
	}
	set := steps.New(env)
	t.Cleanup(func() { _ = set.Close() })
	return set
}

// get executes a step, and returns its output.
func get(t testing.TB, set *steps.Set, config map[string]any) (map[string]any, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	got, err := set.Execute(ctx, steptest.Call("http", config))
	output, _ := got.Output.(map[string]any)
	return output, err
}

func TestConformance(t *testing.T) {
	started := make(chan struct{}, 1)
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			started <- struct{}{}
			<-r.Context().Done()
			return
		}
		echo(w, r)
	})
	b := backend.Binding{Type: "http", URI: server.URL, Username: "user", Password: "a-password", Extra: map[string]string{"header-X-Key": "another-secret"}}
	gone := b
	gone.URI = "http://127.0.0.1:1"
	at := server.URL
	steptest.Run(t, steptest.Harness{
		Type: "http", Env: step.Env{Private: loopback, Connections: steptest.Connections{"api": b, "gone": gone, "broken": {Type: "http"}}},
		Config: map[string]any{
			"url": at, "method": "POST", "headers": map[string]any{"X-A": "b"}, "query": map[string]any{"q": int64(1)}, "body": map[string]any{"a": int64(1)},
			"timeout": "30s", "expect": []any{int64(200), "3xx"}, "maxResponseBytes": int64(10000), "connection": "api",
		},
		Bad: map[string]map[string]any{
			"with.url": {}, "with.url of another scheme": {"url": "file:///etc/passwd"}, "with.url with credentials": {"url": "http://u:p@h/"}, "with.url without host": {"url": "http://"},
			"with.url of another host": {"url": "http://127.0.0.1:1/", "connection": "api"}, "with.url without uri": {"url": "/", "connection": "broken"},
			"with.method": {"url": at, "method": "CONNECT"}, "with.headers": {"url": at, "headers": map[string]any{"A:": "b"}}, "with.headers with a line": {"url": at, "headers": map[string]any{"A": "b\r\nC: d"}},
			"with.headers of the transport": {"url": at, "headers": map[string]any{"Content-Length": "5"}}, "with.headers.a": {"url": at, "headers": map[string]any{"a": []any{}}},
			"with.query": {"url": at, "query": "a=b"}, "with.timeout": {"url": at, "timeout": "0s"}, "with.expect": {"url": at, "expect": []any{int64(99)}}, "with.expect of a class": {"url": at, "expect": []any{"6xx"}},
			"with.maxResponseBytes": {"url": at, "maxResponseBytes": int64(0)}, "with.connection": {"url": at, "connection": "none"},
		},
		Slow: map[string]any{"url": at + "/slow"}, Started: started,
		Failing: []map[string]any{
			{"url": "/?status=401", "connection": "api"}, {"url": "/?status=500", "connection": "api"}, {"url": "/x", "connection": "gone"}, {"url": "/", "connection": "api", "maxResponseBytes": int64(1)},
		},
		Secrets: []string{"a-password", "another-secret", "dXNlcjphLXBhc3N3b3Jk"},
	})
}

func TestRequest(t *testing.T) {
	server := serve(t, echo)
	set := newSet(t, step.Env{Connections: steptest.Connections{"token": {Type: "http", URI: server.URL + "/base", Extra: map[string]string{"token": "t0ken-t0ken"}}}})
	sent := func(config map[string]any) map[string]any {
		t.Helper()
		got, err := get(t, set, config)
		if err != nil {
			t.Fatal(err)
		}
		return got["body"].(map[string]any)
	}
	object := sent(map[string]any{"url": server.URL + "/p?a=1", "method": "PUT", "query": map[string]any{"b": "2 3"}, "body": map[string]any{"html": "<&>"}, "headers": map[string]any{"x-a": int64(5)}})
	headers := object["headers"].(map[string]any)
	if object["method"] != "PUT" || object["query"] != "a=1&b=2+3" || object["body"] != `{"html":"<&>"}` || headers["Content-Type"] != "application/json" || headers["X-A"] != "5" ||
		headers["Idempotency-Key"] != "run-1/step-1/-1/1" {
		t.Errorf("sent %v", object)
	}
	text := sent(map[string]any{"url": server.URL, "method": "POST", "body": "plain", "headers": map[string]any{"Idempotency-Key": "mine"}})
	if headers := text["headers"].(map[string]any); text["body"] != "plain" || headers["Content-Type"] != nil || headers["Idempotency-Key"] != "mine" {
		t.Errorf("sent %v", text)
	}
	read := sent(map[string]any{"url": server.URL})
	if headers := read["headers"].(map[string]any); headers["Idempotency-Key"] != nil || headers["Authorization"] != nil {
		t.Errorf("a GET sent %v", headers)
	}
	// The server echoes the token; the output hides it.
	joined, err := get(t, set, map[string]any{"url": "/x?y=z", "connection": "token"})
	if err != nil || joined["headers"].(map[string]any)["x-seen"] != "Bearer ***" {
		t.Fatalf("got %v, %v", joined, err)
	}
	if body := joined["body"].(map[string]any); body["path"] != "/base/x" || body["query"] != "y=z" || body["headers"].(map[string]any)["Authorization"] != "Bearer ***" {
		t.Errorf("sent %v", body)
	}
}

func TestAnswer(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if kind := r.URL.Query().Get("type"); kind != "" {
			w.Header().Set("Content-Type", kind)
		}
		_, _ = io.WriteString(w, r.URL.Query().Get("body"))
	})
	set := newSet(t, step.Env{})
	for _, test := range []struct {
		kind, body string
		want       any
	}{
		{"application/json", `{"a":[1,2.5,9223372036854775807]}`, map[string]any{"a": []any{int64(1), 2.5, int64(9223372036854775807)}}},
		{"application/problem+json; charset=utf-8", `[]`, []any{}}, {"application/json", `{"a":`, `{"a":`}, {"application/json", `1e999`, `1e999`}, {"application/json", `{} {}`, `{} {}`},
		{"text/plain", ` {"a":1}`, map[string]any{"a": int64(1)}}, {"text/plain", `12`, `12`}, {"text/html", `[1]`, `[1]`}, {"application/json", ``, nil},
	} {
		got, err := get(t, set, map[string]any{"url": server.URL, "query": map[string]any{"type": test.kind, "body": test.body}})
		if err != nil || !reflect.DeepEqual(got["body"], test.want) {
			t.Errorf("%s %s: got %#v, %v, want %#v", test.kind, test.body, got["body"], err, test.want)
		}
	}
	got, err := get(t, set, map[string]any{"url": server.URL, "query": map[string]any{"body": "\xff\x00"}})
	if err != nil || got["body"] != "/wA=" || got["encoding"] != "base64" {
		t.Errorf("got %v, %v of bytes", got, err)
	}
}

// TestStatus: which statuses are expected, and which are retried.
func TestStatus(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", r.URL.Query().Get("after"))
		echo(w, r)
	})
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	set := newSet(t, step.Env{Now: func() time.Time { return now }})
	for _, test := range []struct {
		status    int
		expect    []any
		ok, again bool
	}{
		{200, nil, true, false}, {204, nil, true, false}, {304, nil, false, false}, {400, nil, false, false}, {401, nil, false, false}, {404, nil, false, false}, {408, nil, false, true},
		{425, nil, false, true}, {429, nil, false, true}, {500, nil, false, true}, {503, nil, false, true},
		{404, []any{int64(404)}, true, false}, {404, []any{"2xx", "4XX"}, true, false}, {200, []any{int64(404)}, false, false}, {503, []any{"5xx"}, true, false},
	} {
		config := map[string]any{"url": fmt.Sprintf("%s/?status=%d", server.URL, test.status)}
		if test.expect != nil {
			config["expect"] = test.expect
		}
		got, err := get(t, set, config)
		var permanent *engine.Permanent
		if ok, again := err == nil, err != nil && !errors.As(err, &permanent); ok != test.ok || again != test.again {
			t.Errorf("%d, expecting %v: got %v, want success %v, retry %v", test.status, test.expect, err, test.ok, test.again)
		}
		if test.ok && got["status"] != int64(test.status) {
			t.Errorf("got status %v, want %d", got["status"], test.status)
		}
	}
	for after, want := range map[string]time.Duration{
		"7": 7 * time.Second, "99999": time.Hour, now.Add(90 * time.Second).Format(http.TimeFormat): 90 * time.Second, "soon": 0, "-1": 0, "": 0,
	} {
		_, err := get(t, set, map[string]any{"url": server.URL + "/?status=429&after=" + url.QueryEscape(after)})
		var later *step.RetryLater
		if got := errors.As(err, &later); got != (want > 0) || got && later.RetryAfter() != want {
			t.Errorf("Retry-After %q: got %v, want %s", after, err, want)
		}
	}
}

// TestBounds: an endless response is cut off, and a missing one times out.
func TestBounds(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/silent" {
			<-r.Context().Done()
			return
		}
		for chunk := make([]byte, 32<<10); r.Context().Err() == nil; {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	})
	set := newSet(t, step.Env{})
	_, err := get(t, set, map[string]any{"url": server.URL, "maxResponseBytes": int64(100_000)})
	steptest.Permanent(t, err, "more than 100000 bytes")
	_, err = get(t, set, map[string]any{"url": server.URL + "/silent", "timeout": "50ms"})
	var permanent *engine.Permanent
	if err == nil || errors.As(err, &permanent) || !strings.Contains(err.Error(), "with.timeout of 50ms") {
		t.Errorf("got %v, want a temporary error", err)
	}
}

func TestGuard(t *testing.T) {
	server := serve(t, echo)
	port := server.URL[strings.LastIndex(server.URL, ":"):]
	closed := steps.New(step.Env{Private: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "169.254.169.254"} {
		_, err := get(t, closed, map[string]any{"url": "http://" + host + port, "timeout": "5s"})
		if err == nil || strings.Contains(err.Error(), "status") {
			t.Errorf("%s: got %v, want a refusal", host, err)
		}
	}
	_, err := get(t, closed, map[string]any{"url": server.URL})
	steptest.Permanent(t, err, "with.url: GET http://127.0.0.1"+port+": address is not allowed")
}

func TestRedirects(t *testing.T) {
	other := serve(t, echo)
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if to := r.URL.Query().Get("to"); to != "" {
			code := http.StatusTemporaryRedirect
			if to == "loop" {
				to = r.URL.String()
			}
			http.Redirect(w, r, to, code)
			return
		}
		echo(w, r)
	})
	set := newSet(t, step.Env{Connections: steptest.Connections{"api": {Type: "http", URI: server.URL, Extra: map[string]string{"token": "t0ken-t0ken"}}}})
	to := func(at string) string { return server.URL + "/?to=" + url.QueryEscape(at) }
	secret := map[string]any{"X-Secret": "s"}

	got, err := get(t, set, map[string]any{"url": to("/end"), "method": "POST", "body": "again", "headers": secret})
	if err != nil {
		t.Fatal(err)
	}
	if body := got["body"].(map[string]any); body["path"] != "/end" || body["body"] != "again" || body["headers"].(map[string]any)["X-Secret"] != "s" {
		t.Errorf("same host: sent %v", body)
	}
	got, err = get(t, set, map[string]any{"url": to(other.URL + "/end"), "headers": secret})
	if err != nil {
		t.Fatal(err)
	}
	headers := got["body"].(map[string]any)["headers"].(map[string]any)
	if headers["X-Secret"] != nil || headers["Referer"] != nil {
		t.Errorf("another host: sent %v", headers)
	}
	got, err = get(t, set, map[string]any{"url": to("http://169.254.169.254/"), "expect": []any{"3xx"}})
	if err != nil || got["status"] != int64(307) || got["headers"].(map[string]any)["location"] != "http://169.254.169.254/" {
		t.Errorf("got %v, %v, want the redirect itself", got, err)
	}
	for says, config := range map[string]map[string]any{
		"a host other than the connection's": {"url": "/?to=" + url.QueryEscape(other.URL), "connection": "api"},
		"redirect of a POST to another host": {"url": to(other.URL), "method": "POST"},
		"more than 5 redirects":              {"url": to("loop")},
		"address is not allowed":             {"url": to("http://169.254.169.254/latest/meta-data")},
		"a scheme other than http or https":  {"url": to("ftp://127.0.0.1/")},
	} {
		_, err := get(t, set, config)
		steptest.Permanent(t, err, says)
	}
}

// TestReuse: steps share connections.
func TestReuse(t *testing.T) {
	addresses := map[string]bool{}
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		addresses[r.RemoteAddr] = true // one request at a time
		echo(w, r)
	})
	set := newSet(t, step.Env{})
	for range 10 {
		if _, err := get(t, set, map[string]any{"url": server.URL}); err != nil {
			t.Fatal(err)
		}
	}
	if len(addresses) != 1 {
		t.Errorf("%d connections for ten requests, want 1", len(addresses))
	}
}

func TestTLS(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(echo))
	t.Cleanup(server.Close)
	b := backend.Binding{Type: "http", URI: server.URL, TLS: "true", CA: certificate(server)}
	bindings := steptest.Connections{"api": b}
	set := newSet(t, step.Env{Connections: bindings})
	if _, err := get(t, set, map[string]any{"url": "/", "connection": "api"}); err != nil {
		t.Fatal(err)
	}
	// Without its CA the certificate is rejected, from the next step on.
	b.CA = ""
	bindings["api"] = b
	if _, err := get(t, set, map[string]any{"url": "/", "connection": "api"}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("got %v, want an error of the certificate", err)
	}
}
