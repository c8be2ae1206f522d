// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/itechsmart/operator/workloads/internal/api/problem"
)

// AnyVersion is returned by IfMatch for "*": the thing must exist, in whichever version.
const AnyVersion int64 = -1

// ETag returns the entity tag of a version, quotes included.
func ETag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }

// IfMatch parses an If-Match header: nil without one, AnyVersion for "*". 400 if it is malformed or lists several tags;
// 412 for a weak tag, which never matches.
func IfMatch(header string) (*int64, error) {
	text := strings.TrimSpace(header)
	switch {
	case text == "":
		return nil, nil
	case text == "*":
		version := AnyVersion
		return &version, nil
	case strings.HasPrefix(text, "W/"):
		return nil, Precondition("a weak entity tag matches nothing in If-Match")
	}
	version, ok := parseTag(text)
	if !ok {
		return nil, problem.New(http.StatusBadRequest, "bad_request", "the request is malformed",
			Detail{Field: "header.If-Match", Message: `must be one entity tag, as in the ETag header, or *`})
	}
	return &version, nil
}

// NoneMatch reports whether an If-None-Match header allows a full response: false if it names the version, or is "*", so
// that the response is 304. Foreign tags match nothing.
func NoneMatch(header string, version int64) bool {
	for part := range strings.SplitSeq(header, ",") {
		text := strings.TrimPrefix(strings.TrimSpace(part), "W/")
		if text == "*" {
			return false
		}
		if known, ok := parseTag(text); ok && known == version {
			return false
		}
	}
	return true
}

// parseTag parses the one form that ETag writes.
func parseTag(text string) (int64, bool) {
	if len(text) < 3 || text[0] != '"' || text[len(text)-1] != '"' {
		return 0, false
	}
	version, err := strconv.ParseInt(text[1:len(text)-1], 10, 64)
	return version, err == nil && version >= 0 && ETag(version) == text
}
