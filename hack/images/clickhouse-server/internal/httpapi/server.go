// SPDX-License-Identifier: Apache-2.0

// Package httpapi serves ClickHouse's HTTP interface in front of the engine.
package httpapi

import (
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/uuid"

	"github.com/itechsmart/operator/hack/images/clickhouse-server/internal/engine"
)

// maxQuery limits the text of a query without data, in bytes.
const maxQuery = 64 << 20

// headSize is how much of a body is read to detect whether it contains data.
const headSize = 256 << 10

// Server is the HTTP interface. Its fields are set before the first request.
type Server struct {
	Engine      *engine.Engine
	Credentials Credentials
	DisplayName string
	Log         *slog.Logger
}

// Handler returns the whole interface.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	ok := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
		_, _ = io.WriteString(w, "Ok.\n")
	}
	mux.HandleFunc("GET /ping", ok)
	mux.HandleFunc("GET /replicas_status", ok)
	mux.HandleFunc("/{$}", s.serve)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "There is no handle "+r.URL.Path, http.StatusNotFound)
	})
	return mux
}

// request is one query in progress.
type request struct {
	w       http.ResponseWriter
	r       *http.Request
	query   url.Values
	id      string
	format  string // of the result, unless the query specifies another
	session engine.Session
	params  []engine.Param
	started bool // the response header has been sent
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	h := w.Header()
	h.Set("X-ClickHouse-Server-Display-Name", s.DisplayName)
	h.Set("X-ClickHouse-Timezone", "UTC")
	id := query.Get("query_id")
	if id == "" {
		id = uuid.NewString()
	}
	h.Set("X-ClickHouse-Query-Id", strings.Map(printable, id))
	switch r.Method {
	case http.MethodPost, http.MethodPut:
	case http.MethodGet, http.MethodHead:
		if !query.Has("query") {
			h.Set("Content-Type", "text/html; charset=UTF-8")
			_, _ = io.WriteString(w, "Ok.\n")
			return
		}
	default:
		h.Set("Allow", "GET, HEAD, POST, PUT")
		http.Error(w, "method "+r.Method+" is not allowed", http.StatusMethodNotAllowed)
		return
	}
	if err := s.Credentials.authenticate(r); err != nil {
		s.fail(&request{w: w, r: r, id: id}, err)
		return
	}
	req := newRequest(w, r, query)
	req.id = id
	if err := s.run(req); err != nil {
		s.fail(req, err)
	}
}

func printable(c rune) rune {
	if c < ' ' || c > '~' {
		return -1
	}
	return c
}

// fail responds with an error unless the response has begun.
func (s *Server) fail(req *request, err error) {
	e := asException(err)
	// The message may quote the query and its data, which must not be logged.
	s.Log.Info("query failed", "query_id", req.id, "code", e.Code, "started", req.started)
	if !req.started {
		writeException(req.w, e, s.version())
	}
}

func (s *Server) version() string {
	if s.Engine == nil {
		return "unknown"
	}
	return s.Engine.Version
}

// own lists the parameters of the interface itself; all others are settings of the engine.
var own = map[string]bool{
	"query": true, "database": true, "default_format": true, "query_id": true, "user": true, "password": true,
	"quota_key": true, "compress": true, "decompress": true, "wait_end_of_query": true, "buffer_size": true,
	"session_id": true, "session_timeout": true, "session_check": true, "close_session": true,
	"client_protocol_version": true, "network_compression_method": true, "network_zstd_compression_level": true,
	"enable_http_compression": true, "http_zlib_compression_level": true, "stacktrace": true,
	"send_progress_in_http_headers": true, "http_headers_progress_interval_ms": true,
	"http_write_exception_in_output_format": true, "log_comment": true,
	"async_insert": true, "wait_for_async_insert": true, "async_insert_busy_timeout_ms": true,
}

// newRequest sorts the parameters: the interface's own, the values for placeholders, settings.
func newRequest(w http.ResponseWriter, r *http.Request, query url.Values) *request {
	req := &request{
		w: w, r: r, query: query, format: query.Get("default_format"),
		session: engine.Session{Database: query.Get("database"), Settings: map[string]string{}},
	}
	if format := r.Header.Get("X-ClickHouse-Format"); req.format == "" {
		req.format = format
	}
	if req.format == "" {
		req.format = "TabSeparated"
	}
	if database := r.Header.Get("X-ClickHouse-Database"); req.session.Database == "" {
		req.session.Database = database
	}
	if req.session.Database == "" {
		req.session.Database = "default"
	}
	for name, values := range query {
		value := values[len(values)-1]
		switch param, is := strings.CutPrefix(name, "param_"); {
		case is:
			req.params = append(req.params, engine.Param{Name: param, Value: value})
		case !own[name]:
			req.session.Settings[name] = value
		}
	}
	return req
}

// readOnly reports whether the method forbids changes, as in ClickHouse.
func (req *request) readOnly() bool {
	return req.r.Method == http.MethodGet || req.r.Method == http.MethodHead
}
