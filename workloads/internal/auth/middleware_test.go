// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/itechsmart/operator/workloads/internal/api/problem"
)

type fakeAuthenticator struct{}

func (fakeAuthenticator) Authenticate(_ context.Context, bearer string) (*Principal, error) {
	switch bearer {
	case "good":
		return ada, nil
	case "down":
		return nil, fmt.Errorf("%w: refused", ErrUnavailable)
	case "broken":
		return nil, errors.New("a secret cause")
	}
	return nil, fmt.Errorf("%w: because of a secret cause", ErrInvalidToken)
}

func TestMiddleware(t *testing.T) {
	handler := Middleware(fakeAuthenticator{}, "/token")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := From(r.Context()); p != nil {
			fmt.Fprint(w, p.Name)
			return
		}
		fmt.Fprint(w, "anonymous")
	}))
	for name, c := range map[string]struct {
		path    string
		headers []string
		status  int
		body    string
	}{
		"none":                {"/", nil, 200, "anonymous"},
		"good":                {"/", []string{"Bearer good"}, 200, "ada@example.com"},
		"any case":            {"/", []string{"bearer good"}, 200, "ada@example.com"},
		"another scheme":      {"/", []string{"Basic good"}, 200, "anonymous"},
		"bad":                 {"/", []string{"Bearer bad"}, 401, "invalid_token"},
		"empty":               {"/", []string{"Bearer "}, 401, "invalid_token"},
		"no token":            {"/", []string{"Bearer"}, 401, "invalid_token"},
		"two":                 {"/", []string{"Bearer good", "Bearer good"}, 401, "invalid_token"},
		"long":                {"/", []string{"Bearer " + strings.Repeat("a", MaxToken+1)}, 401, "invalid_token"},
		"unavailable":         {"/", []string{"Bearer down"}, 503, "unavailable"},
		"broken":              {"/", []string{"Bearer broken"}, 500, "internal"},
		"where it is ignored": {"/token", []string{"Bearer bad"}, 200, "anonymous"},
	} {
		t.Run(name, func(t *testing.T) {
			request := httptest.NewRequest(http.MethodGet, c.path, nil)
			for _, h := range c.headers {
				request.Header.Add("Authorization", h)
			}
			recorder := httptest.NewRecorder()
			handler.ServeHTTP(recorder, request)
			body := recorder.Body.String()
			if recorder.Code != c.status || !strings.Contains(body, c.body) {
				t.Errorf("%d %s, want %d %s", recorder.Code, body, c.status, c.body)
			}
			if strings.Contains(body, "secret cause") {
				t.Errorf("the cause leaks: %s", body)
			}
			if c.status == 401 && !strings.HasPrefix(recorder.Header().Get("WWW-Authenticate"), "Bearer") {
				t.Error("WWW-Authenticate is missing")
			}
			if c.status == 503 && recorder.Header().Get("Retry-After") == "" {
				t.Error("Retry-After is missing")
			}
		})
	}
}

// TestSubprotocol checks that the upgrade to a WebSocket may have its token among its subprotocols, and no other request
// may.
func TestSubprotocol(t *testing.T) {
	for name, c := range map[string]struct {
		upgrade, authorization string
		protocols              []string
		token                  string
		given, bad             bool
	}{
		"good":                        {"websocket", "", []string{"itechsmart.v1, bearer.good"}, "good", true, false},
		"two headers":                 {"WebSocket", "", []string{"itechsmart.v1", "bearer.good"}, "good", true, false},
		"none":                        {"websocket", "", []string{"itechsmart.v1"}, "", false, false},
		"no upgrade":                  {"", "", []string{"bearer.good"}, "", false, false},
		"the header takes precedence": {"websocket", "Bearer better", []string{"bearer.good"}, "better", true, false},
		"two tokens":                  {"websocket", "", []string{"bearer.good, bearer.good"}, "", true, true},
		"an empty one":                {"websocket", "", []string{"bearer."}, "", true, true},
		"an endless one":              {"websocket", "", []string{"bearer." + strings.Repeat("a", MaxToken+1)}, "", true, true},
	} {
		request := httptest.NewRequest(http.MethodGet, "/", nil)
		request.Header.Set("Upgrade", c.upgrade)
		if c.authorization != "" {
			request.Header.Set("Authorization", c.authorization)
		}
		request.Header["Sec-Websocket-Protocol"] = c.protocols
		token, given, err := Bearer(request)
		if token != c.token || given != c.given || errors.Is(err, ErrInvalidToken) != c.bad {
			t.Errorf("%s: %q %t %v", name, token, given, err)
		}
	}
}

func TestRequire(t *testing.T) {
	status := func(err error) int {
		if err == nil {
			return 200
		}
		return problem.From(err).Status
	}
	editor := With(context.Background(), &Principal{Grants: []Grant{{"vault", "team-a", RoleEditor}, {"*", "team-b", RoleViewer}}})
	root := With(context.Background(), &Principal{Grants: []Grant{{"*", "*", RoleAdmin}}})
	for name, c := range map[string]struct {
		ctx                context.Context
		product, namespace string
		role               Role
		want               int
	}{
		"anonymous":         {context.Background(), "vault", "team-a", RoleViewer, 401},
		"same role":         {editor, "vault", "team-a", RoleEditor, 200},
		"lower role":        {editor, "vault", "team-a", RoleViewer, 200},
		"higher role":       {editor, "vault", "team-a", RoleAdmin, 403},
		"another namespace": {editor, "vault", "team-c", RoleViewer, 403},
		"another product":   {editor, "notify", "team-a", RoleViewer, 403},
		"every product":     {editor, "notify", "team-b", RoleViewer, 200},
		"everything":        {root, "vault", "team-z", RoleAdmin, 200},
		"requires all":      {editor, "*", "*", RoleViewer, 403},
		"all grants all":    {root, "*", "*", RoleAdmin, 200},
		"no role required":  {root, "vault", "team-a", RoleNone, 403},
		"an unknown role":   {root, "vault", "team-a", "owner", 403},
	} {
		if got := status(Require(c.ctx, c.product, c.namespace, c.role)); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
