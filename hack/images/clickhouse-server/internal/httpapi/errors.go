// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/itechsmart/operator/hack/images/clickhouse-server/internal/engine"
)

// ClickHouse's codes of the errors that the server itself returns.
const (
	codeBadArguments   = 36
	codeNotImplemented = 48
	codeSyntax         = 62
	codeReadonly       = 164
	codeCannotRead     = 33
	codeDecompress     = 271
	codeTooLargeQuery  = 307
	codeAuthentication = 516
	codeUnknown        = 1002
)

// exception returns an error with its code, worded as ClickHouse words them.
func exception(code int, name, format string, args ...any) *engine.Error {
	return &engine.Error{
		Code:    code,
		Message: fmt.Sprintf("Code: %d. DB::Exception: %s. (%s)", code, fmt.Sprintf(format, args...), name),
	}
}

// status maps codes to HTTP as the ClickHouse server does.
func status(code int) int {
	switch code {
	case codeBadArguments, 6, 26, 27, 38, 41, 43, 46, 47, 50, 53, codeSyntax, 69, 70, 72, 115, codeCannotRead, codeDecompress, 456, 457:
		return http.StatusBadRequest
	case 60, 81, 140, 141, 16:
		return http.StatusNotFound
	case codeAuthentication, 192, 193, 291, codeReadonly, 497:
		return http.StatusForbidden
	case 159, 209:
		return http.StatusRequestTimeout
	case codeTooLargeQuery:
		return http.StatusRequestEntityTooLarge
	case codeNotImplemented:
		return http.StatusNotImplemented
	case 202, 252:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// asException converts any error to one with a code.
func asException(err error) *engine.Error {
	var e *engine.Error
	if errors.As(err, &e) {
		return e
	}
	return exception(codeUnknown, "UNKNOWN_EXCEPTION", "%s", err)
}

// writeException responds with the exception. Nothing must have been written before.
func writeException(w http.ResponseWriter, e *engine.Error, version string) {
	h := w.Header()
	h.Set("X-ClickHouse-Exception-Code", strconv.Itoa(e.Code))
	h.Set("Content-Type", "text/plain; charset=UTF-8")
	h.Del("Content-Encoding")
	h.Del("X-ClickHouse-Format")
	w.WriteHeader(status(e.Code))
	fmt.Fprintf(w, "%s (version %s)\n", e.Message, version)
}

// framed returns an exception in the middle of a result, framed as clients expect it; a header announces the tag, so that
// data with the marker is not mistaken for one.
func framed(e *engine.Error, tag, version string) []byte {
	message := fmt.Sprintf("%s (version %s)", e.Message, version)
	return fmt.Appendf(nil, "\r\n__exception__\r\n%s\r\n%s\n%d %s\r\n__exception__\r\n", tag, message, len(message)+1, tag)
}

// newTag returns 16 random characters.
func newTag() string { return rand.Text()[:16] }
