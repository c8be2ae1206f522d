// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/itechsmart/operator/hack/images/clickhouse-server/internal/engine"
)

// run reads the query and its data from the parameter and the body, in this order, and runs it.
func (s *Server) run(req *request) error {
	if strings.HasPrefix(req.r.Header.Get("Content-Type"), "multipart/") {
		return exception(codeNotImplemented, "NOT_IMPLEMENTED", "External tables (a multipart body) are not supported by this server")
	}
	if req.query.Has("role") {
		return exception(codeNotImplemented, "NOT_IMPLEMENTED", "The parameter role is not supported by this server, which has one user")
	}
	body, bodyErr := requestBody(req.r, req.query)
	if bodyErr != nil {
		return bodyErr
	}
	sql := req.query.Get("query")
	parsed := inspect(sql)
	if parsed.insert == nil {
		// The query continues in the body, or is in it as a whole; data may follow it there.
		if sql != "" {
			sql += "\n"
		}
		head, err := io.ReadAll(io.LimitReader(body, headSize))
		if err != nil {
			return unreadable(err)
		}
		sql += string(head)
		parsed = inspect(sql)
	}
	if parsed.insert != nil {
		insert := *parsed.insert
		return s.insert(req, insert, sql[insert.data:], body)
	}
	rest, err := io.ReadAll(io.LimitReader(body, maxQuery-int64(len(sql))+1))
	if err != nil {
		return unreadable(err)
	}
	if sql += string(rest); len(sql) > maxQuery {
		return exception(codeTooLargeQuery, "TOO_MANY_BYTES", "The query is longer than %d bytes", maxQuery)
	}
	if len(rest) > 0 {
		parsed = inspect(sql)
	}
	return s.query(req, strings.TrimRight(sql, " \t\r\n;"), parsed)
}

// unreadable returns an error of reading the body: truncated, or not in its declared encoding.
func unreadable(err error) error {
	return exception(codeCannotRead, "CANNOT_READ_ALL_DATA", "Cannot read the request's body: %s", err)
}

// buffers are for bodies on their way into the engine.
var buffers = sync.Pool{New: func() any { return new([1 << 20]byte) }}

// insert pushes the data into the engine as it arrives. Nothing is acknowledged before the engine has stored it; data
// that ends in an error is not committed.
func (s *Server) insert(req *request, insert insertion, head string, body io.Reader) error {
	if req.readOnly() {
		return exception(codeReadonly, "READONLY", "Cannot execute an INSERT by the method %s", req.r.Method)
	}
	conn, err := s.Engine.Acquire(req.r.Context(), req.session)
	if err != nil {
		return err
	}
	defer s.Engine.Release(conn)
	stream, err := conn.Insert(insert.query, insert.format, req.params)
	if err != nil {
		return err
	}
	defer stream.Close()
	if err := push(stream, head, body); err != nil {
		var refused *engine.Error
		if !errors.As(err, &refused) {
			stream.Cancel()
			return unreadable(err)
		}
		// The end of the insert returns why it refused the data.
		if _, why := stream.Commit(); why != nil {
			err = why
		}
		return err
	}
	stats, err := stream.Commit()
	if err != nil {
		return err
	}
	req.w.Header().Set("X-ClickHouse-Summary", summary(stats))
	req.w.Header().Set("Content-Length", "0")
	req.started = true
	return nil
}

// push writes the head and then the body, in large pieces.
func push(stream io.Writer, head string, body io.Reader) error {
	if _, err := io.WriteString(stream, head); err != nil {
		return err
	}
	if frames, ok := body.(*frameReader); ok {
		_, err := frames.WriteTo(stream)
		return err
	}
	buffer := buffers.Get().(*[1 << 20]byte)
	defer buffers.Put(buffer)
	for {
		n := 0
		var err error
		for n < len(buffer) && err == nil {
			var read int
			read, err = body.Read(buffer[n:])
			n += read
		}
		if _, err := stream.Write(buffer[:n]); err != nil {
			return err
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func summary(stats engine.Stats) string {
	return fmt.Sprintf(`{"read_rows":"%d","read_bytes":"%d","written_rows":"%d","written_bytes":"%d","total_rows_to_read":"0","result_rows":"0","result_bytes":"0"}`,
		stats.ReadRows, stats.ReadBytes, stats.WrittenRows, stats.WrittenBytes)
}

// streamable lists the formats whose pieces can be concatenated.
var streamable = map[string]bool{
	"native": true, "rowbinary": true, "tabseparated": true, "tsv": true, "tabseparatedraw": true, "tsvraw": true,
	"csv": true, "jsoneachrow": true, "jsonlines": true, "ndjson": true, "jsoncompacteachrow": true, "jsonstringseachrow": true,
}

// query runs a statement without data and sends its result.
func (s *Server) query(req *request, sql string, parsed statement) error {
	if strings.TrimSpace(sql) == "" {
		return exception(codeSyntax, "SYNTAX_ERROR", "Empty query")
	}
	if parsed.inputCall {
		return exception(codeNotImplemented, "NOT_IMPLEMENTED", "INSERT … SELECT … FROM input() is not supported by this server; insert into the table directly")
	}
	if parsed.format == "" {
		parsed.format = req.format
	}
	if isHello(sql) && strings.EqualFold(parsed.format, "Native") && req.query.Has("client_protocol_version") {
		block, err := helloBlock(s.DisplayName, s.Engine.Version)
		if err != nil {
			return err
		}
		return s.send(req, parsed.format, block)
	}
	conn, err := s.Engine.Acquire(req.r.Context(), req.session)
	if err != nil {
		return err
	}
	defer s.Engine.Release(conn)
	class, statements := conn.Class(sql)
	if statements > 1 {
		return exception(codeSyntax, "SYNTAX_ERROR", "Multi-statements are not allowed: %d statements in one query", statements)
	}
	if class == engine.Control || class == engine.Unknown {
		// SET, USE and the like change the session, which must not affect another request.
		conn.Retire()
	}
	if req.readOnly() && class != engine.ReadOnly {
		return exception(codeReadonly, "READONLY", "Cannot execute query in readonly mode: the method %s only reads, use POST", req.r.Method)
	}
	if class == engine.ReadOnly && (parsed.verb == "SELECT" || parsed.verb == "WITH") && streamable[strings.ToLower(parsed.format)] {
		return s.stream(req, conn, sql, parsed.format)
	}
	result, err := conn.Query(sql, req.format, req.params)
	if err != nil {
		return err
	}
	defer result.Free()
	req.w.Header().Set("X-ClickHouse-Summary", summary(result.Stats()))
	return s.send(req, parsed.format, result.Bytes())
}

// send responds with a whole result.
func (s *Server) send(req *request, format string, result []byte) error {
	if len(result) == 0 {
		req.w.Header().Set("Content-Length", "0")
		req.started = true
		return nil
	}
	req.begin(format)
	out := responseBody(req.w, req.r, req.query)
	if _, err := out.Write(result); err != nil {
		return err
	}
	return out.Close()
}

// stream sends a result piece by piece. An error after the first piece is framed in the result.
func (s *Server) stream(req *request, conn *engine.Conn, sql, format string) error {
	stream, err := conn.Stream(sql, req.format, req.params)
	if err != nil {
		return err
	}
	defer stream.Close()
	piece, err := stream.Next()
	if err != nil {
		return err
	}
	if piece == nil {
		return s.send(req, format, nil)
	}
	tag := newTag()
	req.w.Header().Set("X-ClickHouse-Exception-Tag", tag)
	req.begin(format)
	out := responseBody(req.w, req.r, req.query)
	for piece != nil {
		_, err = io.Copy(out, bytes.NewReader(piece.Bytes()))
		piece.Free()
		if err != nil {
			return err
		}
		if err := req.r.Context().Err(); err != nil {
			return err
		}
		if piece, err = stream.Next(); err != nil {
			_, _ = out.Write(framed(asException(err), tag, s.version()))
			_ = out.Close()
			return err
		}
	}
	return out.Close()
}

// contentTypes of the common formats; all others are text.
var contentTypes = map[string]string{
	"native": "application/octet-stream", "rowbinary": "application/octet-stream", "parquet": "application/octet-stream",
	"json": "application/json; charset=UTF-8", "jsoncompact": "application/json; charset=UTF-8", "jsonstrings": "application/json; charset=UTF-8",
	"jsoneachrow": "application/x-ndjson; charset=UTF-8", "jsonlines": "application/x-ndjson; charset=UTF-8", "ndjson": "application/x-ndjson; charset=UTF-8",
	"csv": "text/csv; charset=UTF-8; header=absent", "csvwithnames": "text/csv; charset=UTF-8; header=present",
	"tabseparated": "text/tab-separated-values; charset=UTF-8", "tsv": "text/tab-separated-values; charset=UTF-8",
}

// begin sets the header of a result.
func (req *request) begin(format string) {
	contentType := contentTypes[strings.ToLower(format)]
	if contentType == "" {
		contentType = "text/plain; charset=UTF-8"
	}
	req.w.Header().Set("Content-Type", contentType)
	req.w.Header().Set("X-ClickHouse-Format", format)
	req.started = true
}
