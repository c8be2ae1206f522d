// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/internal/server"
)

func TestMain(m *testing.M) { servers.Main(m) }

// note is what the test's service stores.
type note struct {
	Name    string            `json:"name" minLength:"1" maxLength:"20" pattern:"^[a-z]+$" patternDescription:"lower-case letters"`
	Text    string            `json:"text"`
	Data    []byte            `json:"data,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	Address string            `json:"address,omitempty" format:"email"`
	Version int64             `json:"version" readOnly:"true"`
}

// notes is a small service that uses the kit like a product.
type notes struct {
	cursors *api.Cursors
	mu      sync.Mutex
	stored  map[string]note
	created int
}

type noteAnswer struct {
	ETag string `header:"ETag"`
	Body note
}

func (n *notes) register(rest huma.API) {
	huma.Register(rest, huma.Operation{OperationID: "list-notes", Method: http.MethodGet, Path: "/api/v1/notes", Summary: "List notes"}, n.list)
	huma.Register(rest, huma.Operation{OperationID: "make-note", Method: http.MethodPost, Path: "/api/v1/notes", DefaultStatus: http.StatusCreated}, n.make)
	huma.Register(rest, huma.Operation{OperationID: "get-note", Method: http.MethodGet, Path: "/api/v1/notes/{name}"}, n.get)
	huma.Register(rest, huma.Operation{OperationID: "put-note", Method: http.MethodPut, Path: "/api/v1/notes/{name}"}, n.put)
	huma.Register(rest, huma.Operation{OperationID: "delete-note", Method: http.MethodDelete, Path: "/api/v1/notes/{name}"}, n.remove)
	huma.Register(rest, huma.Operation{OperationID: "bare", Method: http.MethodGet, Path: "/api/v1/bare", Metadata: map[string]any{api.Bare: true}},
		func(context.Context, *struct{}) (*noteAnswer, error) {
			return &noteAnswer{Body: note{Name: "bare"}}, nil
		})
	huma.Register(rest, huma.Operation{OperationID: "get-tree", Method: http.MethodGet, Path: "/api/v1/trees/{path...}"},
		func(_ context.Context, in *struct {
			Path string `path:"path"`
		}) (*noteAnswer, error) {
			return &noteAnswer{Body: note{Name: in.Path}}, nil
		})
	echo := func(_ context.Context, in *struct{ Body note }) (*noteAnswer, error) {
		return &noteAnswer{Body: in.Body}, nil
	}
	huma.Register(rest, huma.Operation{OperationID: "large", Method: http.MethodPut, Path: "/api/v1/large", MaxBodyBytes: 64 << 20, BodyReadTimeout: time.Minute}, echo)
	huma.Register(rest, huma.Operation{OperationID: "hasty", Method: http.MethodPut, Path: "/api/v1/hasty", BodyReadTimeout: 300 * time.Millisecond}, echo)
	huma.Register(rest, huma.Operation{OperationID: "fail", Method: http.MethodPost, Path: "/api/v1/fail"},
		func(context.Context, *struct{}) (*noteAnswer, error) { return nil, errSecret })
}

// errSecret must not reach a client.
var errSecret = errors.New("the password is hunter2")

type place struct {
	Name string `json:"name"`
}

func (n *notes) list(_ context.Context, in *struct {
	api.Page
	Prefix string `query:"prefix" maxLength:"20"`
}) (*struct{ Body api.List[note] }, error) {
	var after place
	scope := api.Scope("notes", in.Prefix)
	if err := n.cursors.Decode(scope, in.Cursor, &after); err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	out := &struct{ Body api.List[note] }{}
	out.Body.Items = []note{}
	for _, name := range slices.Sorted(maps.Keys(n.stored)) {
		if name <= after.Name || !strings.HasPrefix(name, in.Prefix) {
			continue
		}
		if len(out.Body.Items) == in.Limit {
			out.Body.Next = n.cursors.Encode(scope, place{out.Body.Items[in.Limit-1].Name})
			break
		}
		out.Body.Items = append(out.Body.Items, n.stored[name])
	}
	return out, nil
}

func (n *notes) make(_ context.Context, in *struct{ Body note }) (*noteAnswer, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.stored[in.Body.Name]; ok {
		return nil, api.Conflict("the note exists")
	}
	n.created++
	in.Body.Version = 1
	n.stored[in.Body.Name] = in.Body
	return &noteAnswer{ETag: api.ETag(1), Body: in.Body}, nil
}

// ByName is embedded: huma needs it exported.
type ByName struct {
	Name string `path:"name" maxLength:"20"`
}

func (n *notes) get(_ context.Context, in *ByName) (*noteAnswer, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	stored, ok := n.stored[in.Name]
	if !ok {
		return nil, api.NotFound("note")
	}
	return &noteAnswer{ETag: api.ETag(stored.Version), Body: stored}, nil
}

func (n *notes) put(_ context.Context, in *struct {
	ByName
	IfMatch string `header:"If-Match"`
	Body    note
}) (*noteAnswer, error) {
	want, err := api.IfMatch(in.IfMatch)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	stored, ok := n.stored[in.Name]
	if !ok {
		return nil, api.NotFound("note")
	}
	if want != nil && *want != api.AnyVersion && *want != stored.Version {
		return nil, api.Precondition("the note has another version")
	}
	in.Body.Version = stored.Version + 1
	n.stored[in.Name] = in.Body
	return &noteAnswer{ETag: api.ETag(in.Body.Version), Body: in.Body}, nil
}

func (n *notes) remove(_ context.Context, in *ByName) (*struct{}, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.stored[in.Name]; !ok {
		return nil, api.NotFound("note")
	}
	delete(n.stored, in.Name)
	return nil, nil
}

// service is a test's server, with its log.
type service struct {
	*httptest.Server
	notes *notes
	log   *safeBuffer
}

const testKey = "0123456789abcdef0123456789abcdef"

func serve(t testing.TB, wrap func(http.Handler) http.Handler) *service {
	t.Helper()
	s := &service{notes: &notes{cursors: api.NewCursors([]byte(testKey)), stored: map[string]note{}}, log: &safeBuffer{}}
	mux := http.NewServeMux()
	s.notes.register(api.New(mux, "Notes", "1.2.3"))
	kit := server.New(server.Options{Name: "notes", Log: slog.New(slog.NewJSONHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	handler := server.Routes(mux)
	if wrap != nil {
		handler = wrap(handler)
	}
	kit.Mount(handler)
	s.Server = httptest.NewServer(kit.Handler())
	t.Cleanup(s.Close)
	return s
}

// answered is one response, read.
type answered struct {
	status int
	header http.Header
	body   string
}

func (s *service) do(t testing.TB, method, path, body string, headers ...string) answered {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answered{resp.StatusCode, resp.Header, string(data)}
}

// data returns the envelope's data.
func (a answered) data(t testing.TB, into any) {
	t.Helper()
	envelope := struct {
		Success   bool
		Data      any
		Message   string
		Timestamp string
	}{Data: into}
	if err := json.Unmarshal([]byte(a.body), &envelope); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
	if !envelope.Success || envelope.Timestamp == "" || envelope.Message == "" {
		t.Errorf("the envelope is incomplete: %s", a.body)
	}
}

// problem returns the envelope's error.
func (a answered) problem(t testing.TB) (code string, details []api.Detail) {
	t.Helper()
	var envelope struct {
		Success *bool
		Error   struct {
			Code, Message string
			Details       []api.Detail
		}
		Timestamp string
	}
	if err := json.Unmarshal([]byte(a.body), &envelope); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
	if envelope.Success == nil || *envelope.Success || envelope.Error.Message == "" || envelope.Timestamp == "" {
		t.Errorf("the envelope is incomplete: %s", a.body)
	}
	return envelope.Error.Code, envelope.Error.Details
}

// safeBuffer is a log that tests read while it is written.
type safeBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
