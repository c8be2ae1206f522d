// SPDX-License-Identifier: Apache-2.0

package problem

import (
	"strconv"
	"strings"
)

// Accepted reports whether an Accept header names application/problem+json, and does not prefer application/json to it.
// Wildcards get the envelope.
func Accepted(accept string) bool {
	if len(accept) < len(TypeProblem) { // most requests
		return false
	}
	ours, plain := 0.0, 0.0
	for part := range strings.SplitSeq(accept, ",") {
		name, parameters, _ := strings.Cut(part, ";")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case TypeProblem:
			ours = max(ours, quality(parameters))
		case TypeJSON:
			plain = max(plain, quality(parameters))
		}
	}
	return ours > 0 && ours >= plain
}

// quality returns the q of a media range's parameters: 1 without one, 0 if it is malformed.
func quality(parameters string) float64 {
	for parameter := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(parameter), "=")
		if !strings.EqualFold(name, "q") {
			continue
		}
		q, err := strconv.ParseFloat(value, 64)
		if err != nil || q < 0 || q > 1 {
			return 0
		}
		return q
	}
	return 1
}
