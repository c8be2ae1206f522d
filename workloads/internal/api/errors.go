// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/itechsmart/operator/workloads/internal/api/problem"
	"github.com/itechsmart/operator/workloads/internal/db"
	"github.com/itechsmart/operator/workloads/internal/server"
)

// Detail is one error, and where it is.
type Detail = problem.Detail

// Error returns a response with a status, a code for programs and a message for people. Each detail is a Detail, or else
// a text. Neither may repeat what the client sent.
func Error(status int, code, message string, details ...any) error {
	return problem.New(status, code, message, details...)
}

// Because adds the cause to a response, for the log.
func Because(answer, cause error) error {
	if e, ok := errors.AsType[*problem.Error](answer); ok {
		e.Cause = cause
	}
	return answer
}

// Write answers a request with an error, outside huma.
func Write(w http.ResponseWriter, r *http.Request, err error) {
	e := problem.From(err)
	if e.Cause != nil {
		server.Fail(r.Context(), e.Cause)
	}
	problem.Write(w, r, e)
}

// Unread returns the response when a handler reads the body itself and cannot read all of it: too large, too slow,
// truncated.
func Unread(ctx context.Context, err error) error {
	return translate(ctx, nil, http.StatusInternalServerError, unreadBody, err)
}

// NotFound returns 404: what is the kind of thing, such as "secret".
func NotFound(what string) error {
	return problem.New(http.StatusNotFound, "not_found", "no such "+what)
}

// Conflict returns 409.
func Conflict(message string) error {
	return problem.New(http.StatusConflict, "conflict", message)
}

// Forbidden returns 403.
func Forbidden(message string) error {
	return problem.New(http.StatusForbidden, "forbidden", message)
}

// Unauthorized returns 401.
func Unauthorized(message string) error {
	e := problem.New(http.StatusUnauthorized, "unauthorized", message)
	e.Headers = http.Header{"Www-Authenticate": {"Bearer"}}
	return e
}

// Invalid returns 422 for a field: "body.path", "query.limit".
func Invalid(field, message string) error {
	return problem.New(http.StatusUnprocessableEntity, "invalid", "the request is invalid", Detail{Field: field, Message: message})
}

// Precondition returns 412: If-Match or a check-and-set failed.
func Precondition(message string) error {
	return problem.New(http.StatusPreconditionFailed, "precondition_failed", message)
}

// Unavailable returns 503, with Retry-After in whole seconds, at least 1.
func Unavailable(retryAfter time.Duration, message string) error {
	return Retry(retryAfter, http.StatusServiceUnavailable, "unavailable", message)
}

// Retry returns an error as Error does, with Retry-After in whole seconds, at least 1.
func Retry(after time.Duration, status int, code, message string) error {
	e := problem.New(status, code, message)
	wait := max(1, int64((after+time.Second-1)/time.Second))
	e.Headers = http.Header{"Retry-After": {strconv.FormatInt(wait, 10)}}
	return e
}

// codes are for errors that huma detects.
var codes = map[int]string{
	http.StatusBadRequest:            "bad_request",
	http.StatusRequestTimeout:        "timeout",
	http.StatusRequestEntityTooLarge: "too_large",
	http.StatusUnsupportedMediaType:  "content_type",
	http.StatusUnprocessableEntity:   "invalid",
}

var messages = map[int]string{
	http.StatusBadRequest:            "the request is malformed",
	http.StatusRequestTimeout:        "the body did not arrive in time",
	http.StatusRequestEntityTooLarge: "the body is too large",
	http.StatusUnsupportedMediaType:  "the body must be application/json in UTF-8",
	http.StatusUnprocessableEntity:   "the request is invalid",
}

// unreadBody is huma's message for a body that cannot be read.
const unreadBody = "cannot read request body"

// translate turns huma's errors into a response; clean removes names chosen by the client from a field's path.
func translate(ctx context.Context, clean func(string) string, status int, message string, errs ...error) *problem.Error {
	all := errors.Join(errs...)
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](all); ok {
		return problem.TooLarge(tooLarge.Limit)
	}
	if status >= http.StatusInternalServerError {
		if message == unreadBody {
			if e, ok := errors.AsType[net.Error](all); ok && e.Timeout() {
				return problem.New(http.StatusRequestTimeout, "timeout", messages[http.StatusRequestTimeout])
			}
			return problem.New(http.StatusBadRequest, "bad_request", "the body could not be read completely")
		}
		if all == nil {
			all = errors.New(message)
		}
		server.Fail(ctx, all)
		if _, ours := errors.AsType[*problem.Error](all); !ours && db.Unavailable(all) {
			return problem.From(DatabaseUnavailable())
		}
		return problem.From(all)
	}
	e := problem.New(status, codes[status], messages[status])
	if e.Code == "" {
		e.Code, e.Message = "error", http.StatusText(status)
	}
	for _, err := range errs {
		if ours, ok := errors.AsType[*problem.Error](err); ok {
			e.Code, e.Message, e.Headers = ours.Code, ours.Message, ours.Headers
			e.Details = append(e.Details, ours.Details...)
		} else if detailed, ok := err.(huma.ErrorDetailer); ok { //nolint:errorlint // huma hands over the details themselves
			e.Details = append(e.Details, safe(detailed.ErrorDetail(), clean))
		}
	}
	return e
}

// safe drops what a detail quotes from the request: the value, and names chosen by the client.
func safe(d *huma.ErrorDetail, clean func(string) string) Detail {
	text := d.Message
	// These are followed by a parser's message, which may quote the value.
	for _, start := range []string{"expected string to be", "expected duration", "invalid value", "invalid date/time", "cannot read multipart form"} {
		if strings.HasPrefix(text, start) {
			text, _, _ = strings.Cut(text, ": ")
		}
	}
	return Detail{Field: clean(d.Location), Message: text}
}

// clean returns a field's path up to the first part that is not a name of ours: "body.labels.*" for a key of a map.
func (r *rest) clean(location string) string {
	for i := 0; i < len(location); {
		end := len(location)
		if next := strings.IndexByte(location[i:], '.'); next >= 0 {
			end = i + next
		}
		name, index, indexed := strings.Cut(location[i:end], "[")
		known := r.names[name] || (i == 0 && places[name])
		if indexed && strings.Trim(index, "[]0123456789") != "" {
			known = false
		}
		if !known {
			return location[:i] + "*"
		}
		i = end + 1
	}
	return location
}

// places are the first parts of a field's path.
var places = map[string]bool{"body": true, "path": true, "query": true, "header": true, "cookie": true, "form": true}
