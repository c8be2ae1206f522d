// SPDX-License-Identifier: Apache-2.0

package clickhouse

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"

	"github.com/itechsmart/operator/internal/backend"
)

// The relevant codes of ClickHouse's src/Common/ErrorCodes.cpp.
var (
	// invalidCodes: the data is invalid; the engine looks for the records.
	invalidCodes = codes(6, 25, 26, 27, 33, 34, 38, 39, 41, 43, 50, 53, 67, 69, 70, 72, 117, 128, 130, 131, 133, 190, 321,
		349, 376, 407, 421, 441, 457, 467, 469, 471, 536, 540, 573, 632, 636, 652, 675, 676, 677, 678, 691)
	// missingCodes: the database, the table or a column does not exist (yet).
	missingCodes = codes(8, 10, 16, 47, 60, 81, 218, 390)
	authCodes    = codes(192, 193, 194, 195, 497, 516, 164)
)

// reasons maps codes to error texts of our own; the server's may quote a row.
var reasons = map[int]string{
	16: "no such column in the table", 27: "cannot parse a value", 38: "cannot parse a date", 41: "cannot parse a date and time",
	53: "type mismatch", 60: "the table does not exist", 69: "value out of range", 72: "cannot parse a number", 81: "the database does not exist",
	117: "incorrect data, or a field that is not a column", 159: "timeout", 164: "the server is read-only for this user", 192: "unknown user", 193: "wrong password",
	202: "too many simultaneous queries", 241: "the server's memory limit is reached", 242: "the table is read-only", 243: "not enough space",
	252: "too many parts: inserts outpace merges", 349: "NULL for a column that is not Nullable", 376: "cannot parse a UUID", 394: "the query was cancelled",
	407: "decimal overflow", 469: "a constraint of the table is violated", 497: "the user lacks a privilege", 516: "authentication failed", 691: "unknown element of an enum",
}

func codes(list ...int) map[int]bool {
	set := make(map[int]bool, len(list))
	for _, code := range list {
		set[code] = true
	}
	return set
}

var (
	codePattern   = regexp.MustCompile(`Code: (\d+)`)
	namePattern   = regexp.MustCompile(`\(([A-Z][A-Z0-9_]{3,60})\)`)
	columnPattern = regexp.MustCompile(`while reading the value of key ([A-Za-z_][A-Za-z0-9_]{0,63})\b`)
)

// maxErrorBytes is how much of an error response is read.
const maxErrorBytes = 16 << 10

// exceptionOf turns a failed response into an error without any row content.
func exceptionOf(op string, binding backend.Binding, response *http.Response) error {
	body, readErr := io.ReadAll(io.LimitReader(response.Body, maxErrorBytes))
	code, _ := strconv.Atoi(response.Header.Get("X-ClickHouse-Exception-Code"))
	if match := codePattern.FindSubmatch(body); code == 0 && match != nil {
		code, _ = strconv.Atoi(string(match[1]))
	}
	if code == 0 {
		if readErr == nil {
			readErr = fmt.Errorf("HTTP status %d without an exception code", response.StatusCode)
		}
		kind := backend.ErrUnavailable
		if response.StatusCode == http.StatusUnauthorized || response.StatusCode == http.StatusForbidden {
			kind = backend.ErrAuth
		}
		return binding.Error(op, kind, readErr)
	}
	text := "code " + strconv.Itoa(code)
	if names := namePattern.FindAllSubmatch(body, -1); len(names) > 0 {
		text += " " + string(names[len(names)-1][1])
	}
	if reason := reasons[code]; reason != "" {
		text += ": " + reason
	}
	if column := columnPattern.FindSubmatch(body); column != nil {
		text += fmt.Sprintf(" (column %q)", column[1])
	}
	return binding.Error(op, kindOf(code), errors.New(text))
}

func kindOf(code int) error {
	switch {
	case invalidCodes[code]:
		return backend.ErrInvalid
	case missingCodes[code]:
		return backend.ErrNotFound
	case authCodes[code]:
		return backend.ErrAuth
	default:
		// Overload, memory, replicas, parts, and any code of a newer server: retry.
		return backend.ErrUnavailable
	}
}
