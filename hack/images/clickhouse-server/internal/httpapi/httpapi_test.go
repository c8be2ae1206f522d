// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/ClickHouse/ch-go/proto"

	"github.com/itechsmart/operator/hack/images/clickhouse-server/internal/engine"
)

func TestInspect(t *testing.T) {
	for _, test := range []struct {
		sql           string
		verb          string
		query, format string // of an insert with data
		data          string
		asked         string // FORMAT of a query
		input         bool
	}{
		{sql: "SELECT 1", verb: "SELECT"},
		{sql: " -- INSERT\n/* INSERT */ select 1 format JSON", verb: "SELECT", asked: "JSON"},
		{sql: "SELECT 'x FORMAT CSV'", verb: "SELECT"},
		{sql: "SELECT 'it\\'s' AS `FORMAT`, \"FORMAT CSV\" FORMAT TSV", verb: "SELECT", asked: "TSV"},
		{sql: "SELECT count() FROM (SELECT 1 FORMAT Null) FORMAT CSV SETTINGS max_threads = 1", verb: "SELECT", asked: "CSV"},
		{sql: "INSERT INTO t FORMAT CSV\n1,2\n", verb: "INSERT", query: "INSERT INTO t ", format: "CSV", data: "1,2\n"},
		{sql: "INSERT INTO t FORMAT CSV\n\n1", verb: "INSERT", query: "INSERT INTO t ", format: "CSV", data: "\n1"},
		{sql: "INSERT INTO t FORMAT JSONEachRow {\"a\":1}", verb: "INSERT", query: "INSERT INTO t ", format: "JSONEachRow", data: `{"a":1}`},
		{sql: "insert into d.t (a, `values`) settings x=1 values (1, 'FORMAT CSV')", verb: "INSERT", query: "insert into d.t (a, `values`) settings x=1 ", format: "Values", data: " (1, 'FORMAT CSV')"},
		{sql: "INSERT INTO t (format) FORMAT Native", verb: "INSERT", query: "INSERT INTO t (format) ", format: "Native"},
		{sql: "INSERT INTO format FORMAT Native", verb: "INSERT", query: "INSERT INTO format ", format: "Native"},
		{sql: "INSERT INTO t SELECT a FROM v", verb: "INSERT"},
		{sql: "INSERT INTO t (a) WITH 1 AS x SELECT x", verb: "INSERT"},
		{sql: "INSERT INTO t SELECT a FROM input('a Int8') FORMAT CSV 1", verb: "INSERT", input: true},
		{sql: "INSERT INTO t SELECT a FROM v WHERE s = 'input('", verb: "INSERT"},
		{sql: "WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x", verb: "INSERT"},
		{sql: "INSERT INTO t (a) (SELECT 1)", verb: "INSERT"},
		{sql: "CREATE TABLE t (a Int8)", verb: "CREATE"},
		{sql: "'unclosed", verb: ""}, {sql: "/* unclosed", verb: ""}, {sql: `'\`, verb: ""}, {sql: "", verb: ""},
	} {
		got := inspect(test.sql)
		if got.verb != test.verb || got.format != test.asked || got.inputCall != test.input {
			t.Errorf("%q: verb %q, format %q, input %v", test.sql, got.verb, got.format, got.inputCall)
		}
		if test.query == "" {
			if got.insert != nil {
				t.Errorf("%q: parsed as an insert with data: %+v", test.sql, got.insert)
			}
			continue
		}
		if got.insert == nil || got.insert.query != test.query || got.insert.format != test.format || test.sql[got.insert.data:] != test.data {
			t.Errorf("%q: insert %+v", test.sql, got.insert)
		}
	}
}

func FuzzInspect(f *testing.F) {
	f.Add("INSERT INTO t FORMAT CSV\n1")
	f.Add("SELECT '\\")
	f.Fuzz(func(t *testing.T, sql string) {
		if got := inspect(sql); got.insert != nil && (got.insert.data > len(sql) || !strings.HasPrefix(sql, got.insert.query)) {
			t.Errorf("%q: %+v", sql, got.insert)
		}
	})
}

func TestAuthenticate(t *testing.T) {
	credentials := Credentials{User: "app", Password: "pässword"}
	for _, test := range []struct {
		name string
		set  func(r *http.Request)
		ok   bool
	}{
		{"basic", func(r *http.Request) { r.SetBasicAuth("app", "pässword") }, true},
		{"headers", func(r *http.Request) {
			r.Header.Set("X-ClickHouse-User", "app")
			r.Header.Set("X-ClickHouse-Key", "pässword")
		}, true},
		{"parameters", func(r *http.Request) { r.URL.RawQuery = "user=app&password=p%C3%A4ssword" }, true},
		{"nothing", func(*http.Request) {}, false},
		{"wrong password", func(r *http.Request) { r.SetBasicAuth("app", "password") }, false},
		{"no password", func(r *http.Request) { r.SetBasicAuth("app", "") }, false},
		{"prefix", func(r *http.Request) { r.SetBasicAuth("app", "pässwor") }, false},
		{"wrong user", func(r *http.Request) { r.SetBasicAuth("default", "pässword") }, false},
		{"two ways", func(r *http.Request) {
			r.SetBasicAuth("app", "pässword")
			r.Header.Set("X-ClickHouse-User", "app")
		}, false},
		{"not basic", func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") }, false},
	} {
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		test.set(r)
		err := credentials.authenticate(r)
		if (err == nil) != test.ok {
			t.Errorf("%s: %v", test.name, err)
		}
		if err != nil && (err.Code != codeAuthentication || strings.Contains(err.Message, "pässword")) {
			t.Errorf("%s: code %d, %s", test.name, err.Code, err.Message)
		}
	}
	if err := (Credentials{User: "default"}).authenticate(httptest.NewRequest(http.MethodGet, "/", nil)); err != nil {
		t.Errorf("default without a password: %v", err)
	}
}

func TestFrames(t *testing.T) {
	data := bytes.Repeat([]byte("clickhouse "), 300_000) // more than one frame
	for _, method := range []compress.Method{compress.None, compress.LZ4, compress.LZ4HC, compress.ZSTD} {
		var wire bytes.Buffer
		w := &frameWriter{out: &wire, frame: compress.NewWriter(0, method)}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
		whole := wire.Bytes()
		if got, err := io.ReadAll(newFrameReader(bytes.NewReader(whole))); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%v: read %d bytes of %d: %v", method, len(got), len(data), err)
		}
		var out bytes.Buffer
		reader := newFrameReader(bytes.NewReader(whole))
		begin := make([]byte, 1000)
		if _, err := io.ReadFull(reader, begin); err != nil {
			t.Fatal(err)
		}
		if _, err := reader.WriteTo(&out); err != nil || !bytes.Equal(append(begin, out.Bytes()...), data) {
			t.Errorf("%v: WriteTo returned %d bytes: %v", method, out.Len(), err)
		}
		for _, cut := range []int{1, 15, 16, 24, 25, 26, len(whole) / 2, len(whole) - 1} {
			if _, err := io.Copy(io.Discard, newFrameReader(bytes.NewReader(whole[:cut]))); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%v: cut at %d: %v", method, cut, err)
			}
		}
		for _, at := range []int{0, 16, 17, 21, 25, 30} {
			bad := bytes.Clone(whole)
			bad[at] ^= 0x40
			if _, err := io.Copy(io.Discard, newFrameReader(bytes.NewReader(bad))); err == nil {
				t.Errorf("%v: a wrong byte at %d was accepted", method, at)
			}
		}
	}
}

func FuzzFrames(f *testing.F) {
	w := compress.NewWriter(0, compress.LZ4)
	if err := w.Compress([]byte("some data some data")); err != nil {
		f.Fatal(err)
	}
	f.Add(bytes.Clone(w.Data))
	f.Fuzz(func(_ *testing.T, wire []byte) {
		_, _ = io.Copy(io.Discard, newFrameReader(bytes.NewReader(wire)))
	})
}

func newServer() http.Handler {
	s := &Server{Credentials: Credentials{User: "app", Password: "pw"}, DisplayName: "test", Log: slog.New(slog.DiscardHandler)}
	return s.Handler()
}

// TestBeforeEngine covers responses that do not need the engine.
func TestBeforeEngine(t *testing.T) {
	handler := newServer()
	gz := func(text string) string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = io.WriteString(w, text)
		_ = w.Close()
		return b.String()
	}
	for _, test := range []struct {
		name, method, target, encoding, body string
		anonymous                            bool
		status                               int
		code, text                           string
	}{
		{name: "ping", method: "GET", target: "/ping", anonymous: true, status: 200, text: "Ok.\n"},
		{name: "replicas", method: "GET", target: "/replicas_status", anonymous: true, status: 200, text: "Ok.\n"},
		{name: "root", method: "GET", target: "/", anonymous: true, status: 200, text: "Ok.\n"},
		{name: "no handle", method: "GET", target: "/play", anonymous: true, status: 404, text: "/play"},
		{name: "no credentials", method: "POST", target: "/?query=SELECT+1", anonymous: true, status: 403, code: "516", text: "AUTHENTICATION_FAILED"},
		{name: "method", method: "DELETE", target: "/", status: 405},
		{name: "empty", method: "POST", target: "/", status: 400, code: "62", text: "Empty query"},
		{name: "insert by GET", method: "GET", target: "/?query=INSERT+INTO+t+FORMAT+CSV", status: 403, code: "164", text: "READONLY"},
		{name: "unknown encoding", method: "POST", target: "/", encoding: "rot13", status: 501, code: "48", text: "rot13"},
		{name: "not gzip", method: "POST", target: "/", encoding: "gzip", body: "SELECT 1", status: 400, code: "271", text: "Content-Encoding"},
		{name: "gzip cut off", method: "POST", target: "/", encoding: "gzip", body: gz("SELECT 1")[:15], status: 400, code: "33"},
		{name: "bad frame", method: "POST", target: "/?decompress=1", body: strings.Repeat("x", 40), status: 400, code: "33", text: "frame"},
		{name: "role", method: "POST", target: "/?query=SELECT+1&role=x", status: 501, code: "48", text: "role"},
		{name: "input()", method: "POST", target: "/", body: "INSERT INTO t SELECT * FROM input('a Int8') FORMAT CSV 1", status: 501, code: "48"},
		{name: "gzip input()", method: "POST", target: "/", encoding: "gzip", body: gz("INSERT INTO t SELECT * FROM input('a Int8') FORMAT CSV 1"), status: 501, code: "48"},
	} {
		r := httptest.NewRequest(test.method, test.target, strings.NewReader(test.body))
		if !test.anonymous {
			r.SetBasicAuth("app", "pw")
		}
		if test.encoding != "" {
			r.Header.Set("Content-Encoding", test.encoding)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != test.status || w.Header().Get("X-ClickHouse-Exception-Code") != test.code || !strings.Contains(w.Body.String(), test.text) {
			t.Errorf("%s: %d, code %q, %q", test.name, w.Code, w.Header().Get("X-ClickHouse-Exception-Code"), w.Body)
		}
	}
}

func TestQueryID(t *testing.T) {
	for target, want := range map[string]string{"/?query=x&query_id=abc": "abc", "/?query=x&query_id=a%0D%0Ab": "ab"} {
		w := httptest.NewRecorder()
		newServer().ServeHTTP(w, httptest.NewRequest(http.MethodPost, target, nil))
		if got := w.Header().Get("X-ClickHouse-Query-Id"); got != want {
			t.Errorf("%s: %q, want %q", target, got, want)
		}
	}
	w := httptest.NewRecorder()
	newServer().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/?query=x", nil))
	if len(w.Header().Get("X-ClickHouse-Query-Id")) != 36 {
		t.Error("a query without an id got none")
	}
}

func TestRequestParameters(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "/?database=d&default_format=Native&param_a=1&max_threads=2&query_id=q&compress=1&client_protocol_version=54460", nil)
	req := newRequest(httptest.NewRecorder(), r, r.URL.Query())
	if req.session.Database != "d" || req.format != "Native" || len(req.params) != 1 || req.params[0] != (engine.Param{Name: "a", Value: "1"}) {
		t.Errorf("%+v", req)
	}
	if len(req.session.Settings) != 1 || req.session.Settings["max_threads"] != "2" {
		t.Errorf("settings %v", req.session.Settings)
	}
	r = httptest.NewRequest(http.MethodPost, "/", nil)
	r.Header.Set("X-ClickHouse-Database", "h")
	r.Header.Set("X-ClickHouse-Format", "CSV")
	if req = newRequest(httptest.NewRecorder(), r, r.URL.Query()); req.session.Database != "h" || req.format != "CSV" {
		t.Errorf("by headers: %+v", req)
	}
}

// TestHello decodes the response like a client of the announced revision.
func TestHello(t *testing.T) {
	if !isHello(helloQuery) || !isHello(" "+helloQuery+";") || isHello("SELECT version()") {
		t.Error("another query was mistaken for the hello query")
	}
	raw, err := helloBlock("name", "26.7.2.1")
	if err != nil {
		t.Fatal(err)
	}
	var name, version, zone proto.ColStr
	var revision proto.ColUInt32
	var block proto.Block
	err = block.DecodeBlock(proto.NewReader(bytes.NewReader(raw)), helloRevision, proto.Results{
		{Name: "displayName()", Data: &name}, {Name: "version()", Data: &version}, {Name: "revision()", Data: &revision}, {Name: "timezone()", Data: &zone},
	})
	if err != nil || name.Row(0) != "name" || version.Row(0) != "26.7.2.1" || revision.Row(0) != 0 || zone.Row(0) != "UTC" {
		t.Errorf("%v %v %v %v: %v", name, version, revision, zone, err)
	}
}

func TestFramedException(t *testing.T) {
	e := exception(395, "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO", "x")
	text := string(framed(e, "0123456789abcdef", "26.7"))
	want := "\r\n__exception__\r\n0123456789abcdef\r\nCode: 395. DB::Exception: x. (FUNCTION_THROW_IF_VALUE_IS_NON_ZERO) (version 26.7)\n"
	if !strings.HasPrefix(text, want) || !strings.HasSuffix(text, " 0123456789abcdef\r\n__exception__\r\n") {
		t.Errorf("%q", text)
	}
	if tag := newTag(); len(tag) != 16 || tag == newTag() {
		t.Errorf("tag %q", tag)
	}
}
