// SPDX-License-Identifier: Apache-2.0

package service

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/internal/audit"
	"github.com/itechsmart/operator/workloads/internal/product/producttest"
	"github.com/itechsmart/operator/workloads/internal/server"
	wire "github.com/itechsmart/operator/workloads/vault/client"
)

const mib = 1 << 20

// file returns a content of the given size, the same for the same seed.
func file(seed byte, size int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{seed}), size)
}

func bytesOf(t testing.TB, in io.Reader) []byte {
	t.Helper()
	data, err := io.ReadAll(in)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// upload sends a content; headers may replace its type.
func (r *running) upload(path string, in io.Reader, headers ...string) producttest.Response {
	r.T.Helper()
	request, err := http.NewRequestWithContext(r.T.Context(), http.MethodPut, r.URL+producttest.Base+path, in)
	if err != nil {
		r.T.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+r.Admin)
	request.Header.Set("Content-Type", typeContent)
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		r.T.Fatal(err)
	}
	defer answer.Body.Close()
	return producttest.Response{Status: answer.StatusCode, Header: answer.Header, Body: bytesOf(r.T, answer.Body)}
}

func (r *running) wantFile(path string, seed byte, size int64) http.Header {
	r.T.Helper()
	answer := r.Call(r.Admin, "GET", path, nil)
	if answer.Status != http.StatusOK || !bytes.Equal(answer.Body, bytesOf(r.T, file(seed, size))) {
		r.T.Fatalf("GET %s: %d, %d bytes, other than those sent", path, answer.Status, len(answer.Body))
	}
	return answer.Header
}

// The life of a large file: stored, read, replaced, compared, rolled back, and all of it in the audit log.
func TestContent(t *testing.T) {
	r := start(t, settingsOn(t, servers.Postgres(t)), nil)
	const path = "/secrets/backup%2Fkeys/content"
	expires := url.QueryEscape("2099-01-02T03:04:05Z")
	first := r.upload(path+"?filename=k%C3%A9ys.bin&metadata=team=a&metadata=b=c%3Dd&expiresAt="+expires, file(1, 20*mib), "If-None-Match", "*")
	if first.Status != http.StatusCreated || first.Header.Get("ETag") != `"1"` {
		t.Fatalf("%d %s", first.Status, first.Body)
	}
	header := r.wantFile(path, 1, 20*mib)
	if header.Get("Content-Type") != typeContent || header.Get("Cache-Control") != "no-store" || header.Get("ETag") != `"1"` ||
		header.Get("Content-Disposition") != "attachment; filename*=utf-8''k%C3%A9ys.bin" {
		t.Errorf("headers %v", header)
	}
	known := must[wire.Secret](r, 200, r.Admin, "GET", "/secrets/backup%2Fkeys", nil)
	if known.Size != 20*mib || known.Type != wire.TypeFile || known.Metadata["team"] != "a" || known.Metadata["b"] != "c=d" || known.ExpiresAt == nil || known.ExpiresAt.Year() != 2099 {
		t.Errorf("known %+v", known)
	}
	if a := r.Call(r.Admin, "GET", "/secrets/backup%2Fkeys/value", nil); a.Status != 422 || a.Refusal(t).Code != wire.CodeStreamed {
		t.Errorf("as a value: %d %s", a.Status, a.Body)
	}
	if a := r.upload(path, file(2, 2*mib), "If-None-Match", "*"); a.Status != http.StatusConflict {
		t.Errorf("made twice: %d %s", a.Status, a.Body)
	}
	if a := r.upload(path, file(2, 2*mib), "If-Match", `"7"`); a.Status != http.StatusPreconditionFailed {
		t.Errorf("stale: %d %s", a.Status, a.Body)
	}
	if a := r.upload(path, file(2, 2*mib), "If-Match", `"1"`); a.Status != http.StatusOK || a.Header.Get("ETag") != `"2"` {
		t.Errorf("a second version: %d %s", a.Status, a.Body)
	}
	diff := must[[]wire.FieldDiff](r, 200, r.Admin, "GET", "/secrets/backup%2Fkeys/diff?from=1&to=2", nil)
	if len(diff) != 2 || diff[0].Change != "changed" || diff[1].Change != "removed" {
		t.Errorf("diff %+v", diff)
	}
	if back := must[wire.Secret](r, 200, r.Admin, "POST", "/secrets/backup%2Fkeys/rollback", map[string]int{"version": 1}); back.Version != 3 || back.Size != 20*mib {
		t.Errorf("rolled back to %+v", back)
	}
	r.wantFile(path, 1, 20*mib)
	r.wantFile(path+"?version=2", 2, 2*mib)
	// A small one is a value like any other, in both directions.
	if a := r.upload("/secrets/small/content?filename=s", file(3, 100)); a.Status != http.StatusCreated {
		t.Fatalf("small: %d %s", a.Status, a.Body)
	}
	if v := must[wire.Read](r, 200, r.Admin, "GET", "/secrets/small/value", nil); !bytes.Equal(v.Value[wire.FieldFile], bytesOf(t, file(3, 100))) || string(v.Value[wire.FieldFilename]) != "s" {
		t.Error("a small file is not a value")
	}
	r.wantFile("/secrets/small/content", 3, 100)
	r.contentAudited(t)
	r.contentDocumented(t)
}

func (r *running) contentAudited(t *testing.T) {
	t.Helper()
	for _, want := range []string{
		"secret.write secret/backup/keys@1 allowed", "secret.write secret/backup/keys failed", "secret.write secret/backup/keys@2 allowed",
		"secret.read secret/backup/keys@1 allowed", "secret.read secret/backup/keys failed", "secret.rollback secret/backup/keys@3 allowed",
		"secret.read secret/backup/keys@2 allowed",
	} {
		r.Wait("an audit event: "+want, func() bool {
			for _, e := range must[wire.Page[audit.Entry]](r, 200, r.Admin, "GET", "/audit?limit=500", nil).Items {
				if e.Action+" "+e.Object+" "+e.Outcome == want {
					return true
				}
			}
			return false
		})
	}
}

func (r *running) contentDocumented(t *testing.T) {
	t.Helper()
	response, err := http.Get(r.URL + "/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	type media map[string]json.RawMessage
	var document struct {
		Paths map[string]map[string]struct {
			RequestBody struct{ Content media }
			Responses   map[string]struct{ Content media }
		}
	}
	if err := json.NewDecoder(response.Body).Decode(&document); err != nil {
		t.Fatal(err)
	}
	operations := document.Paths[producttest.Base+contentPath]
	put, get := operations["put"], operations["get"]
	if put.RequestBody.Content[typeContent] == nil || get.Responses["200"].Content[typeContent] == nil {
		t.Errorf("the document says %+v", operations)
	}
	for _, status := range []string{"200", "201", "400", "403", "408", "409", "412", "413", "415", "422"} {
		if _, ok := put.Responses[status]; !ok {
			t.Errorf("the document lacks %s", status)
		}
	}
}

// Each is refused with an error that names the cause, and changes nothing.
func TestBadContent(t *testing.T) {
	settings := settingsOn(t, servers.Postgres(t))
	limited := vaultSettings(t, settings)
	limited.MaxFileBytes = 3 * mib
	settings.Settings = producttest.Own(limited)
	r := start(t, settings, nil)
	if a := r.upload("/secrets/a/content", file(1, 2*mib)); a.Status != http.StatusCreated {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	must[wire.Secret](r, http.StatusCreated, r.Admin, "POST", "/secrets", write("text", "one"))
	before := r.snapshot()
	unknown := func(size int64) io.Reader { return struct{ io.Reader }{file(2, size)} } // of unknown length
	for _, c := range []struct {
		name, path string
		in         io.Reader
		status     int
		field      string
		headers    []string
	}{
		{"over the limit", "/secrets/a/content", bytes.NewReader(make([]byte, 3*mib+1)), 413, "body", nil},
		{"over the limit, in chunks", "/secrets/b/content", unknown(3*mib + 1), 413, "body", nil},
		{"far over the limit", "/secrets/b/content", unknown(100 * mib), 413, "body", nil},
		{"another type", "/secrets/text/content", unknown(2 * mib), 422, "path.type", nil},
		{"path traversal", "/secrets/..%2Fa/content", unknown(10), 422, "path.path", nil},
		{"JSON", "/secrets/a/content", strings.NewReader("{}"), 415, "header.Content-Type", []string{"Content-Type", "application/json"}},
		{"no type", "/secrets/a/content", strings.NewReader("x"), 415, "body", []string{"Content-Type", ""}},
		{"compressed", "/secrets/a/content", strings.NewReader("x"), 415, "", []string{"Content-Encoding", "gzip"}},
		{"a directory", "/secrets/a/content?filename=a%2Fb", unknown(2 * mib), 422, "query.filename", nil},
		{"metadata without a value", "/secrets/a/content?metadata=a", unknown(10), 422, "query.metadata", nil},
		{"metadata twice", "/secrets/a/content?metadata=a=b&metadata=a=c", unknown(10), 422, "query.metadata", nil},
		{"an unknown parameter", "/secrets/a/content?name=a", unknown(10), 422, "", nil},
		{"a malformed If-Match", "/secrets/a/content", unknown(10), 400, "header.If-Match", []string{"If-Match", canary}},
		{"both conditions", "/secrets/a/content", unknown(10), 422, "header.If-None-Match", []string{"If-Match", `"1"`, "If-None-Match", "*"}},
		{"not there", "/secrets/c/content", unknown(10), 404, "", []string{"If-Match", "*"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := r.upload(c.path, c.in, c.headers...)
			if a.Status != c.status {
				t.Fatalf("%d %s, want %d", a.Status, a.Body, c.status)
			}
			refusal := a.Refusal(t)
			named := c.field == ""
			for _, d := range refusal.Details {
				named = named || d.Field == c.field
			}
			if !named || bytes.Contains(a.Body, []byte(canary)) {
				t.Errorf("it does not name field %s, or quotes the request: %s", c.field, a.Body)
			}
		})
	}
	for path, status := range map[string]int{"/secrets/text/content": 422, "/secrets/none/content": 404, "/secrets/a/content?version=9": 404, "/secrets/a/content?version=-1": 422} {
		if a := r.Call(r.Admin, "GET", path, nil); a.Status != status {
			t.Errorf("GET %s: %d %s, want %d", path, a.Status, a.Body, status)
		}
	}
	if a := r.Call("", "GET", "/secrets/a/content", nil); a.Status != http.StatusUnauthorized {
		t.Errorf("without a login: %d", a.Status)
	}
	if after := r.snapshot(); after != before {
		t.Error("something changed")
	}
	// Other routes accept no more than before.
	if a := r.Call(r.Admin, "PUT", "/secrets/a%2Fcontent", `{"path":"`+strings.Repeat("x", 3*mib)+`"}`); a.Status != http.StatusRequestEntityTooLarge {
		t.Errorf("a large body elsewhere: %d", a.Status)
	}
	r.wantFile("/secrets/a/content", 1, 2*mib)
}

// A client that disconnects midway leaves nothing, whether or not it announced a length.
func TestContentAborted(t *testing.T) {
	r := start(t, settingsOn(t, servers.Postgres(t)), nil)
	if a := r.upload("/secrets/kept/content", file(1, 2*mib)); a.Status != http.StatusCreated {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	before := r.snapshot()
	for name, head := range map[string]string{
		"early": "Content-Length: 1000000\r\n\r\n" + strings.Repeat("x", 1000), "late": "Content-Length: 30000000\r\n\r\n" + strings.Repeat("x", 5*mib),
		"in chunks": "Transfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n", 2*mib) + strings.Repeat("x", 2*mib) + "\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			failed := strings.Count(r.Logs.String(), `"reason":"bad_request"`)
			conn, err := net.Dial("tcp", strings.TrimPrefix(r.URL, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, "PUT "+producttest.Base+"/secrets/a/content HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer "+r.Admin+"\r\nContent-Type: "+typeContent+"\r\n"+head); err != nil {
				t.Fatal(err)
			}
			if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			if answer.StatusCode != http.StatusBadRequest {
				t.Errorf("%d %s", answer.StatusCode, bytesOf(t, answer.Body))
			}
			r.Wait("the failure in the audit log", func() bool { return strings.Count(r.Logs.String(), `"reason":"bad_request"`) > failed })
			if after := r.snapshot(); after != before {
				t.Error("something was stored")
			}
		})
	}
	if a := r.upload("/secrets/a/content", file(1, 2*mib)); a.Status != http.StatusCreated {
		t.Errorf("afterwards: %d %s", a.Status, a.Body)
	}
}

// A client that stops sending gets a response before the server's own timeout, which does not apply to a stream.
func TestContentStalled(t *testing.T) {
	s := server.New(server.Options{Name: productName, Addr: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler), DrainDelay: -1, ReadTimeout: time.Hour})
	s.Mount(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, newPaced(r.Body, w, 50*time.Millisecond)); err != nil {
			api.Write(w, r, api.Unread(r.Context(), err))
		}
	}))
	address, _, err := s.Listen()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	conn, err := net.Dial("tcp", address.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"+strings.Repeat("x", 300<<10)); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusRequestTimeout {
		t.Errorf("%d %s", answer.StatusCode, bytesOf(t, answer.Body))
	}
}

// A row that was modified: an error if the first part or the number of parts reveals it, else a response that ends early.
func TestContentTampered(t *testing.T) {
	r := start(t, settingsOn(t, servers.Postgres(t)), nil)
	if a := r.upload("/secrets/a/content", file(1, 2*mib)); a.Status != http.StatusCreated {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	pool := r.pool()
	defer pool.Close()
	change := func(sql string) {
		t.Helper()
		if tag, err := pool.Exec(t.Context(), sql); err != nil || tag.RowsAffected() != 1 {
			t.Fatal(tag, err)
		}
	}
	change(`UPDATE chunks SET ciphertext = set_byte(ciphertext, 100, 255 - get_byte(ciphertext, 100)) WHERE number = 5`)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.URL+producttest.Base+"/secrets/a/content", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+r.Admin)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	got, err := io.ReadAll(answer.Body)
	if answer.StatusCode != http.StatusOK || answer.ContentLength != 2*mib || err == nil || len(got) > 5*contentStep || !bytes.Equal(got, bytesOf(t, file(1, int64(len(got))))) {
		t.Errorf("%d, %d of %d bytes, %v: a client would accept it as complete", answer.StatusCode, len(got), answer.ContentLength, err)
	}
	for _, sql := range []string{
		`UPDATE chunks SET ciphertext = set_byte(ciphertext, 100, 255 - get_byte(ciphertext, 100)) WHERE number = 0`,
		`DELETE FROM chunks WHERE number = 7`,
	} {
		change(sql)
		if a := r.Call(r.Admin, "GET", "/secrets/a/content", nil); a.Status != 422 || a.Refusal(t).Code != "corrupt" {
			t.Errorf("%s: %d %s", sql, a.Status, a.Body)
		}
	}
}
