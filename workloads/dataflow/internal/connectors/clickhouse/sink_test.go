// SPDX-License-Identifier: Apache-2.0

package clickhouse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connector"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connector/connectortest"
	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
)

func TestMain(m *testing.M) { servers.Main(m) }

// server runs the tests' own queries on the real server.
type server struct{ s sink }

func newServer(t testing.TB, b backend.Binding) *server {
	t.Helper()
	return &server{sink{binding: b, client: &http.Client{}, base: url.URL{Scheme: "http", Host: b.Address(), Path: "/"}}}
}

func (s *server) query(t testing.TB, query string) []byte {
	t.Helper()
	request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, s.s.base.String(), strings.NewReader(query))
	if err != nil {
		t.Fatal(err)
	}
	request.SetBasicAuth(s.s.binding.Username, s.s.binding.Password)
	response, err := s.s.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(response.Body); err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", query, body.String())
	}
	return body.Bytes()
}

var tables atomic.Int64

func (s *server) table(t testing.TB, columns string) string {
	t.Helper()
	name := fmt.Sprintf("t%d", tables.Add(1))
	s.query(t, "CREATE OR REPLACE TABLE default."+name+" ("+columns+") ENGINE = MergeTree ORDER BY n SETTINGS non_replicated_deduplication_window = 1000")
	return name
}

func (s *server) rows(t testing.TB, table string) [][]byte {
	t.Helper()
	data := s.query(t, "SELECT n, text FROM default."+table+" ORDER BY n FORMAT JSONEachRow SETTINGS output_format_json_quote_64bit_integers = 0")
	return bytes.Split(bytes.TrimSpace(data), []byte("\n"))
}

func TestConformance(t *testing.T) {
	b := servers.ClickHouse(t)
	s := newServer(t, b)
	for _, compression := range []string{"none", "lz4"} {
		t.Run(compression, func(t *testing.T) {
			connectortest.Sink(t, func(t *testing.T) connectortest.SinkHarness {
				table := s.table(t, "n Int64, text String")
				spec := Sink()
				unreachable := b
				unreachable.Port = "1"
				return connectortest.SinkHarness{
					Common: connectortest.Common{
						Spec: spec, Env: connectortest.NewEnv(t, spec, b),
						Config: map[string]any{"table": table, "compression": compression},
						BadConfigs: map[string]string{
							`{}`: "table", `{"table":"a b"}`: "table", `{"table":"t","database":"x;y"}`: "database",
							`{"table":"t","unknownFields":"Maybe"}`: "unknownFields", `{"table":"t","columns":[{"name":"a"}]}`: "type",
						},
						Unreachable: &unreachable,
					},
					Stored:     func(t testing.TB) [][]byte { t.Helper(); return s.rows(t, table) },
					Refused:    []byte(`{"n":"CONFIDENTIAL","text":"CONFIDENTIAL"}`),
					Ordered:    true,
					Idempotent: true,
				}
			})
		})
	}
}

func opened(t *testing.T, b backend.Binding, cfg Config) *sink {
	t.Helper()
	s, err := open(t.Context(), cfg, connector.Env{Binding: b})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return s.(*sink)
}

func records(origin string, values ...string) *record.Batch {
	b := &record.Batch{}
	for i, value := range values {
		r := record.New([]byte(value))
		r.Origin = fmt.Sprintf("%s@%d", origin, i)
		b.Records = append(b.Records, r)
	}
	return b
}

// The server drops a batch that is sent again under the same origin.
func TestRepeatedBatchIsStoredOnce(t *testing.T) {
	b := servers.ClickHouse(t)
	s := newServer(t, b)
	table := s.table(t, "n Int64, text String")
	first := opened(t, b, Config{Table: table})
	batch := records("topic/0", `{"n":1,"text":"a"}`, `{"n":2,"text":"b"}`)
	for range 3 {
		if err := first.Write(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	if err := opened(t, b, Config{Table: table}).Write(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	if rows := s.rows(t, table); len(rows) != 2 {
		t.Errorf("%d rows, want 2: %s", len(rows), rows)
	}
	if err := first.Write(t.Context(), records("topic/1", `{"n":1,"text":"a"}`, `{"n":2,"text":"b"}`)); err != nil {
		t.Fatal(err)
	}
	if rows := s.rows(t, table); len(rows) != 4 {
		t.Errorf("%d rows after equal values from another origin, want 4", len(rows))
	}
}

// A value other than a single JSON object must not reach the server, where it could swallow its neighbours.
func TestForgedRowsAreRefused(t *testing.T) {
	b := servers.ClickHouse(t)
	s := newServer(t, b)
	table := s.table(t, "n Int64, text String")
	sink := opened(t, b, Config{Table: table})
	err := sink.Write(t.Context(), records("x", `{"n":1}{"n":2}`, `{"n":3,"text":"`, `"}`, `[{"n":4}]`, `7`, ``, "{\"n\":5,\"text\":\"\xff\"}", `{"n":6}`, "{\"n\":7,\n\"text\":\"x\"}"))
	var refused *record.Errors
	if !errors.As(err, &refused) || len(refused.ByIndex) != 7 {
		t.Fatalf("Write: %v, want 7 refused records", err)
	}
	for i := range 7 {
		if !errors.Is(refused.ByIndex[i], backend.ErrInvalid) {
			t.Errorf("record %d: %v", i, refused.ByIndex[i])
		}
	}
	if rows := s.rows(t, table); len(rows) != 2 {
		t.Errorf("rows %s, want those of records 7 and 8", rows)
	}
}

func TestErrorsAreClassified(t *testing.T) {
	b := servers.ClickHouse(t)
	s := newServer(t, b)
	columns := "n Int64, text String, at DateTime64(3), d Date, u UUID, e Enum8('a'=1), arr Array(Int32), ip IPv4, dec Decimal(9,2), m Map(String,Int32), low LowCardinality(Nullable(String)), b Bool"
	table := s.table(t, columns)
	sink := opened(t, b, Config{Table: table, UnknownFields: "Fail"})
	for _, value := range []string{
		`{"n":"x"}`, `{"n":1.5e400}`, `{"n":1,"at":"CONFIDENTIAL"}`, `{"n":1,"d":"CONFIDENTIAL"}`, `{"n":1,"u":"CONFIDENTIAL"}`,
		`{"n":1,"e":"CONFIDENTIAL"}`, `{"n":1,"arr":"CONFIDENTIAL"}`, `{"n":1,"arr":["CONFIDENTIAL"]}`, `{"n":1,"ip":"CONFIDENTIAL"}`,
		`{"n":1,"dec":"CONFIDENTIAL"}`, `{"n":1,"dec":123456789012}`, `{"n":1,"m":["CONFIDENTIAL"]}`, `{"n":1,"b":"CONFIDENTIAL"}`, `{"n":1,"CONFIDENTIAL":1}`, `{"n":{}}`,
	} {
		err := sink.Write(t.Context(), records(value, value))
		if !errors.Is(err, backend.ErrInvalid) {
			t.Errorf("%s: %v, want backend.ErrInvalid", value, err)
		}
		if err != nil && strings.Contains(err.Error(), "CONFIDENTIAL") {
			t.Errorf("%s: the error contains the row: %v", value, err)
		}
		t.Log(err)
	}
	if err := sink.Write(t.Context(), records("good", `{"n":1,"at":"2026-01-02T03:04:05.678Z","d":"2026-01-02","u":"61f0c404-5cb3-11e7-907b-a6006ad3dba0","e":"a","arr":[1],"ip":"1.2.3.4","dec":1.25,"m":{"a":1},"low":null,"b":true,"text":null}`)); err != nil {
		t.Errorf("a good row: %v", err)
	}

	s.query(t, "DROP TABLE default."+table)
	err := sink.Write(t.Context(), records("x", `{"n":1}`))
	if !errors.Is(err, backend.ErrNotFound) || errors.Is(err, backend.ErrInvalid) {
		t.Errorf("dropped table: %v, want backend.ErrNotFound", err)
	}
	if _, err := open(t.Context(), Config{Table: "nowhere"}, connector.Env{Binding: b}); !errors.Is(err, backend.ErrNotFound) {
		t.Errorf("missing table: %v, want backend.ErrNotFound", err)
	}
	wrong := b
	wrong.Password = "wr0ngpassw0rd"
	if _, err := open(t.Context(), Config{Table: "nowhere"}, connector.Env{Binding: wrong}); !errors.Is(err, backend.ErrAuth) || strings.Contains(err.Error(), wrong.Password) {
		t.Errorf("wrong password: %v, want backend.ErrAuth", err)
	}
}

// Overload is retried, and no error quotes a row of the server's response.
func TestServerErrors(t *testing.T) {
	for _, test := range []struct {
		status     int
		code, body string
		want       error
	}{
		{500, "241", "Code: 241. DB::Exception: CONFIDENTIAL (MEMORY_LIMIT_EXCEEDED)", backend.ErrUnavailable},
		{500, "252", "Code: 252. DB::Exception: Too many parts (TOO_MANY_PARTS)", backend.ErrUnavailable},
		{503, "", "Code: 202. DB::Exception: (TOO_MANY_SIMULTANEOUS_QUERIES)", backend.ErrUnavailable},
		{400, "27", "Code: 27. DB::Exception: Cannot parse input: CONFIDENTIAL (while reading the value of key price): (at row 1) (CANNOT_PARSE_INPUT_ASSERTION_FAILED)", backend.ErrInvalid},
		{403, "516", "Code: 516. (AUTHENTICATION_FAILED)", backend.ErrAuth},
		{502, "", "<html>CONFIDENTIAL</html>", backend.ErrUnavailable},
		{401, "", "", backend.ErrAuth},
	} {
		fake := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Query().Get("query"), "EXISTS") {
				_, _ = w.Write([]byte("1\n"))
				return
			}
			if test.code != "" {
				w.Header().Set("X-ClickHouse-Exception-Code", test.code)
			}
			w.WriteHeader(test.status)
			_, _ = w.Write([]byte(test.body))
		}))
		host, port, _ := strings.Cut(strings.TrimPrefix(fake.URL, "http://"), ":")
		sink := opened(t, backend.Binding{Host: host, Port: port}, Config{Table: "t"})
		err := sink.Write(t.Context(), records("x", `{"n":1}`))
		if !errors.Is(err, test.want) || strings.Contains(err.Error(), "CONFIDENTIAL") {
			t.Errorf("status %d code %s: %v, want %v", test.status, test.code, err, test.want)
		}
		fake.Close()
	}
}
