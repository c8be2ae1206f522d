// SPDX-License-Identifier: Apache-2.0

// Package problem renders errors: in the envelope {"success":false,"error":{…},"timestamp":…}, or as RFC 9457
// application/problem+json for clients that accept it. A response never contains what the client sent, nor the cause of a
// failure of ours.
package problem

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// The content types of responses.
const (
	TypeJSON    = "application/json"
	TypeProblem = "application/problem+json"
)

// Detail is one error.
type Detail struct {
	// Field is where: "body.path", "query.limit", "header.If-Match".
	Field   string `json:"field,omitempty" doc:"where it is: body.path, query.limit"`
	Message string `json:"message" doc:"what is wrong with it"`
}

// Error is an error response. It also implements package huma's error.
type Error struct {
	Status  int
	Code    string
	Message string
	Details []Detail
	// Headers go with the answer: Retry-After, WWW-Authenticate.
	Headers http.Header
	// Cause is only for the log.
	Cause error
}

// Error implements error.
func (e *Error) Error() string {
	text := strconv.Itoa(e.Status) + " " + e.Code + ": " + e.Message
	for _, d := range e.Details {
		text += "; " + d.Field + ": " + d.Message
	}
	if e.Cause != nil {
		text += ": " + e.Cause.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// GetStatus returns the HTTP status.
func (e *Error) GetStatus() int { return e.Status }

// GetHeaders returns the headers of the response.
func (e *Error) GetHeaders() http.Header { return e.Headers }

// New returns an error with a status, a code for programs and a message for people. Each detail is a Detail, or else a
// text.
func New(status int, code, message string, details ...any) *Error {
	e := &Error{Status: status, Code: code, Message: message}
	for _, d := range details {
		switch d := d.(type) {
		case Detail:
			e.Details = append(e.Details, d)
		case []Detail:
			e.Details = append(e.Details, d...)
		default:
			e.Details = append(e.Details, Detail{Message: fmt.Sprint(d)})
		}
	}
	return e
}

// StatusClientGone is the status in logs and metrics if the client disconnected; it is never sent.
const StatusClientGone = 499

// From returns the response to an error: an Error unchanged, and for anything else an internal error without details.
func From(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return TooLarge(tooLarge.Limit)
	}
	switch {
	case errors.Is(err, context.Canceled):
		return &Error{Status: StatusClientGone, Code: "client_gone", Message: "the client went away", Cause: err}
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Status: http.StatusServiceUnavailable, Code: "timeout", Message: "the request timed out; try again", Headers: http.Header{"Retry-After": {"1"}}, Cause: err}
	}
	return &Error{Status: http.StatusInternalServerError, Code: "internal", Message: "an internal error; the log has the details under the request's id", Cause: err}
}

// TooLarge refuses a body over limit bytes.
func TooLarge(limit int64) *Error {
	return New(http.StatusRequestEntityTooLarge, "too_large", fmt.Sprintf("the body is larger than %d bytes", limit),
		Detail{Field: "body", Message: fmt.Sprintf("must have at most %d bytes", limit)})
}

// ErrorEnvelope is the body of an error.
type ErrorEnvelope struct {
	Success   bool      `json:"success" enum:"false" doc:"false"`
	Error     ErrorBody `json:"error"`
	Timestamp time.Time `json:"timestamp"`
}

// ErrorBody is the error within an ErrorEnvelope.
type ErrorBody struct {
	Code    string   `json:"code" doc:"for programs: not_found, conflict"`
	Message string   `json:"message" doc:"for people"`
	Details []Detail `json:"details"`
}

// Problem is the body of an error after RFC 9457.
type Problem struct {
	Type   string   `json:"type" doc:"about:blank: the status is the type"`
	Title  string   `json:"title" doc:"the status in words"`
	Status int      `json:"status"`
	Detail string   `json:"detail" doc:"for people"`
	Code   string   `json:"code" doc:"for programs: not_found, conflict"`
	Errors []Detail `json:"errors,omitempty"`
}

// Render returns the error's body and its content type, for a request with this Accept header.
func (e *Error) Render(accept string) (contentType string, body any) {
	if Accepted(accept) {
		return TypeProblem, Problem{Type: "about:blank", Title: title(e.Status), Status: e.Status, Detail: e.Message, Code: e.Code, Errors: e.Details}
	}
	details := e.Details
	if details == nil {
		details = []Detail{}
	}
	return TypeJSON, ErrorEnvelope{Error: ErrorBody{Code: e.Code, Message: e.Message, Details: details}, Timestamp: time.Now().UTC()}
}

func title(status int) string {
	if text := http.StatusText(status); text != "" {
		return text
	}
	return "Error"
}

// Write answers a request with an error.
func Write(w http.ResponseWriter, r *http.Request, err error) {
	e := From(err)
	contentType, body := e.Render(r.Header.Get("Accept"))
	header := w.Header()
	for name, values := range e.Headers {
		header[name] = append(header[name], values...)
	}
	header.Set("Content-Type", contentType)
	header.Del("Content-Length")
	header.Del("ETag")
	data, marshalErr := json.Marshal(body)
	if marshalErr != nil { // cannot happen with plain structs
		data = []byte(`{"success":false}`)
	}
	w.WriteHeader(e.Status)
	_, _ = w.Write(append(data, '\n'))
}
