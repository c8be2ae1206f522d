// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/ory/fosite"

	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/internal/api/problem"
	"github.com/itechsmart/operator/workloads/internal/audit"
	"github.com/itechsmart/operator/workloads/internal/server"
)

const (
	prefix  = api.Base
	maxForm = 32 << 10 // bytes
)

// Anonymous lists the paths at which a bearer token is ignored: an expired one must not prevent getting a new one.
var Anonymous = []string{prefix + "/token", prefix + "/revoke", prefix + "/authorize", prefix + "/jwks"}

var grantTypes = []string{"password", "refresh_token", "authorization_code"}

// token serves POST /token.
func (s *Service) token(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	if err := s.form(w, r); err != nil {
		s.oauthError(w, r, err)
		return
	}
	grant := r.PostForm.Get("grant_type")
	if grant != "" && !slices.Contains(grantTypes, grant) {
		s.oauthError(w, r, fosite.ErrUnsupportedGrantType)
		return
	}
	request, err := s.provider.NewAccessRequest(ctx, r, &fosite.DefaultSession{})
	if err == nil {
		var response fosite.AccessResponder
		if response, err = s.provider.NewAccessResponse(ctx, request); err == nil {
			err = s.loggedIn(ctx, r, request)
			if err == nil {
				s.provider.WriteAccessResponse(ctx, w, request, response)
				return
			}
		}
	}
	s.oauthError(w, r, s.notLoggedIn(ctx, r, request, err))
}

// loggedIn records a login.
func (s *Service) loggedIn(ctx context.Context, r *http.Request, request fosite.AccessRequester) error {
	if request.GetGrantTypes().ExactOne("refresh_token") {
		return nil
	}
	return s.record(ctx, audit.Event{
		User: s.nameOf(ctx, request.GetSession().GetSubject()), UserID: request.GetSession().GetSubject(),
		Action: "login", Object: "session/" + request.GetID(), Outcome: audit.Allowed, UserAgent: r.UserAgent(),
		Details: map[string]string{"grant": strings.Join(request.GetGrantTypes(), " "), "client": request.GetClient().GetID()},
	})
}

func (s *Service) nameOf(ctx context.Context, id string) string {
	u, err := s.users.get(ctx, id)
	if err != nil {
		return id
	}
	return u.Email
}

// notLoggedIn records a failed login and the reuse of a refresh token, which ends its session also if both were used
// concurrently.
func (s *Service) notLoggedIn(ctx context.Context, r *http.Request, request fosite.AccessRequester, err error) error {
	event := audit.Event{Action: "login", Outcome: audit.Denied, UserAgent: r.UserAgent()}
	switch {
	case request == nil || errors.Is(err, errBusy):
		return err
	case errors.Is(err, fosite.ErrInactiveToken):
		session := request.GetSession()
		event.Action, event.Object = "token.reuse", "session/"+session.GetUsername()
		event.UserID, event.User = session.GetSubject(), s.nameOf(ctx, session.GetSubject())
		if revokeErr := s.store.RevokeRefreshToken(context.WithoutCancel(ctx), session.GetUsername()); revokeErr != nil {
			return revokeErr
		}
		err = fosite.ErrInvalidGrant.WithWrap(err)
	case r.PostForm.Get("grant_type") == "password" && (errors.Is(err, fosite.ErrInvalidGrant) || isLocked(err)):
		event.User, event.Object = "anonymous", "user/unknown"
		if email, ok := normalEmail(r.PostForm.Get("username")); ok {
			event.Object = "user/" + email
		}
	default:
		return err
	}
	if recordErr := s.record(ctx, event); recordErr != nil {
		return recordErr
	}
	return err
}

func isLocked(err error) bool {
	_, locked := errors.AsType[*lockedError](err)
	return locked
}

// revoke serves POST /revoke as in RFC 7009.
func (s *Service) revoke(w http.ResponseWriter, r *http.Request) {
	err := s.form(w, r)
	if err == nil && r.PostForm.Get("token") == "" {
		err = fosite.ErrInvalidRequest.WithHint("The parameter token is missing.")
	}
	if err == nil {
		err = s.provider.NewRevocationRequest(r.Context(), r)
	}
	if err != nil {
		s.oauthError(w, r, err)
		return
	}
	s.provider.WriteRevocationResponse(r.Context(), w, nil)
}

// form reads the parameters of the body, each once, and adds the default client if none is named.
func (s *Service) form(w http.ResponseWriter, r *http.Request) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/x-www-form-urlencoded" {
		return fosite.ErrInvalidRequest.WithHint("The body must be application/x-www-form-urlencoded.")
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return problem.TooLarge(tooLarge.Limit)
		}
		return fosite.ErrInvalidRequest.WithHint("The body is malformed.")
	}
	for _, values := range r.PostForm {
		if len(values) > 1 {
			return fosite.ErrInvalidRequest.WithHint("A parameter is duplicated.")
		}
	}
	if _, _, basic := r.BasicAuth(); !basic && r.PostForm.Get("client_id") == "" {
		r.PostForm.Set("client_id", DefaultClient)
	}
	return nil
}

// oauthError responds as in RFC 6749, section 5.2; to a full queue and a locked account with 503 and 429, and
// Retry-After. It never repeats what the client sent.
func (s *Service) oauthError(w http.ResponseWriter, r *http.Request, err error) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("Pragma", "no-cache")
	status, code, description := s.oauthAnswer(header, r, err)
	header.Set("Content-Type", "application/json")
	w.WriteHeader(status)
	body, marshalErr := json.Marshal(map[string]string{"error": code, "error_description": description})
	if marshalErr != nil { // cannot happen with plain texts
		return
	}
	_, _ = w.Write(append(body, '\n'))
}

func (s *Service) oauthAnswer(header http.Header, r *http.Request, err error) (status int, code, description string) {
	const unavailable = "temporarily_unavailable"
	if locked, ok := errors.AsType[*lockedError](err); ok {
		header.Set("Retry-After", strconv.Itoa(seconds(locked.wait)))
		return http.StatusTooManyRequests, unavailable, "Too many failed logins. Try again later."
	}
	if errors.Is(err, errBusy) {
		header.Set("Retry-After", "2")
		return http.StatusServiceUnavailable, unavailable, "Too many concurrent logins. Try again."
	}
	if ours, ok := errors.AsType[*problem.Error](err); ok { // the audit log is full, the body too large
		for name, values := range ours.Headers {
			header[name] = values
		}
		if ours.Status < http.StatusInternalServerError {
			return ours.Status, fosite.ErrInvalidRequest.ErrorField, ours.Message
		}
		return ours.Status, unavailable, ours.Message
	}
	e, known := errors.AsType[*fosite.RFC6749Error](err)
	if !known || e.CodeField >= http.StatusInternalServerError {
		// Mostly the database, which will recover.
		server.Fail(r.Context(), err)
		s.log.ErrorContext(r.Context(), "an OAuth request failed", "error", cause(err), slog.String("requestID", server.RequestID(r.Context())))
		header.Set("Retry-After", "5")
		return http.StatusServiceUnavailable, unavailable, "The request could not be served. Try again."
	}
	if _, _, basic := r.BasicAuth(); basic && e.CodeField == http.StatusUnauthorized {
		header.Set("WWW-Authenticate", `Basic realm="token"`)
	}
	return e.CodeField, e.ErrorField, describe(e)
}

// describe omits a hint that may quote the request.
func describe(e *fosite.RFC6749Error) string {
	if e.HintField == "" || strings.ContainsAny(e.HintField, `'"`) {
		return e.DescriptionField
	}
	return e.DescriptionField + " " + e.HintField
}

// cause unwraps fosite's errors, whose own text is too general.
func cause(err error) string {
	if e, ok := errors.AsType[*fosite.RFC6749Error](err); ok && e.Unwrap() != nil {
		return fmt.Sprintf("%s: %v", e.ErrorField, e.Unwrap())
	}
	return err.Error()
}

// jwks serves GET /jwks: the public keys, of which there are none with only HS256.
func (s *Service) jwks(w http.ResponseWriter, r *http.Request) {
	body, err := json.Marshal(s.ring.public)
	if err != nil {
		problem.Write(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "public, max-age=300")
	_, _ = w.Write(append(body, '\n'))
}
