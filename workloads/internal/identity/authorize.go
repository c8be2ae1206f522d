// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"html/template"
	"net/http"
	"strconv"

	"github.com/ory/fosite"

	"github.com/itechsmart/operator/workloads/internal/audit"
)

const style = `body{font-family:sans-serif;max-width:24em;margin:4em auto;padding:0 1em}label,input,button{display:block;width:100%;box-sizing:border-box;margin:.4em 0;font-size:1em}input,button{padding:.5em}[role=alert]{color:#a00}`

// stylePolicy allows only this style, and no script at all.
var stylePolicy = func() string {
	sum := sha256.Sum256([]byte(style))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}()

// page is the login page of the authorization code flow. Its form posts to its own URL, with the query.
var page = template.Must(template.New("login").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Log in</title><style>` + style + `</style></head>
<body><h1>Log in</h1><p>to continue to {{.Client}}</p>
{{with .Message}}<p role="alert">{{.}}</p>
{{end}}<form method="post" autocomplete="on">
<label for="username">Email</label><input id="username" name="username" type="email" autocomplete="username" required autofocus>
<label for="password">Password</label><input id="password" name="password" type="password" autocomplete="current-password" required>
<button type="submit">Log in</button>
</form></body></html>
`))

// authorize serves GET /authorize with a login page, and its POST with a redirect to the client that carries the code. A
// user who is logged in elsewhere logs in again: there is no cookie that another site could abuse.
func (s *Service) authorize(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Frame-Options", "DENY")
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := once(r); err != nil {
		s.oauthError(w, r, err)
		return
	}
	// fosite would answer the other modes with a fragment, or a page with a script.
	if mode := r.Form.Get("response_mode"); mode != "" && mode != "query" {
		s.oauthError(w, r, fosite.ErrUnsupportedResponseMode)
		return
	}
	request, err := s.provider.NewAuthorizeRequest(ctx, r)
	if err == nil && !request.GetResponseTypes().ExactOne("code") {
		err = fosite.ErrUnsupportedResponseType
	}
	if err != nil {
		s.authorizeError(w, r, request, err)
		return
	}
	if r.Method != http.MethodPost {
		s.loginPage(w, request, http.StatusOK, "")
		return
	}
	id, err := s.login(ctx, r.PostForm.Get("username"), r.PostForm.Get("password"))
	if err != nil {
		s.loginFailed(w, r, request, err)
		return
	}
	response, err := s.provider.NewAuthorizeResponse(ctx, request, &fosite.DefaultSession{Subject: id})
	if err == nil {
		err = s.record(ctx, audit.Event{User: s.nameOf(ctx, id), UserID: id, Action: "authorize", Object: "client/" + request.GetClient().GetID(),
			Outcome: audit.Allowed, UserAgent: r.UserAgent()})
	}
	if err != nil {
		s.authorizeError(w, r, request, err)
		return
	}
	s.provider.WriteAuthorizeResponse(ctx, w, request, response)
}

// once refuses duplicate parameters, in the query, in the body, or in both.
func once(r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return fosite.ErrInvalidRequest.WithHint("The request is malformed.")
	}
	for _, values := range r.Form {
		if len(values) > 1 {
			return fosite.ErrInvalidRequest.WithHint("A parameter is duplicated.")
		}
	}
	return nil
}

// authorizeError is sent to the client only if the redirect URI is known to be its own.
func (s *Service) authorizeError(w http.ResponseWriter, r *http.Request, request fosite.AuthorizeRequester, err error) {
	if e, ok := errors.AsType[*fosite.RFC6749Error](err); ok && e.CodeField < http.StatusInternalServerError && request != nil && request.IsRedirectURIValid() {
		plain := *e
		plain.HintField, plain.DescriptionField = "", describe(e)
		s.provider.WriteAuthorizeError(r.Context(), w, request, &plain)
		return
	}
	s.oauthError(w, r, err)
}

func (s *Service) loginFailed(w http.ResponseWriter, r *http.Request, request fosite.AuthorizeRequester, err error) {
	status, message := http.StatusUnauthorized, "The email address or the password is wrong."
	if locked, ok := errors.AsType[*lockedError](err); ok {
		w.Header().Set("Retry-After", strconv.Itoa(seconds(locked.wait)))
		status, message = http.StatusTooManyRequests, "Too many failed logins. Try again later."
	} else if errors.Is(err, errBusy) {
		w.Header().Set("Retry-After", "2")
		status, message = http.StatusServiceUnavailable, "Too many concurrent logins. Try again."
	} else if !errors.Is(err, errNoUser) {
		s.oauthError(w, r, err)
		return
	}
	event := audit.Event{Action: "login", Object: "user/unknown", Outcome: audit.Denied, UserAgent: r.UserAgent()}
	if email, ok := normalEmail(r.PostForm.Get("username")); ok {
		event.Object = "user/" + email
	}
	if status != http.StatusServiceUnavailable {
		if err := s.record(r.Context(), event); err != nil {
			s.oauthError(w, r, err)
			return
		}
	}
	s.loginPage(w, request, status, message)
}

func (s *Service) loginPage(w http.ResponseWriter, request fosite.AuthorizeRequester, status int, message string) {
	target := request.GetRedirectURI()
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	// Browsers check form-action against the redirect that follows, too.
	header.Set("Content-Security-Policy", "default-src 'none'; style-src "+stylePolicy+"; form-action 'self' "+target.Scheme+"://"+target.Host+"; frame-ancestors 'none'; base-uri 'none'")
	w.WriteHeader(status)
	data := struct{ Client, Message string }{request.GetClient().GetID(), message}
	if err := page.Execute(w, data); err != nil {
		s.log.Debug("the login page was not sent", "error", err)
	}
}
