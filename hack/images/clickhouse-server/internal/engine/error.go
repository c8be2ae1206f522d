// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"regexp"
	"strconv"
	"strings"
)

// Class of a statement.
type Class int

// The classes of statements.
const (
	ReadOnly       Class = 0 // SELECT, SHOW, DESCRIBE, EXPLAIN, EXISTS
	Mutating       Class = 1 // changes a database
	MutatingGlobal Class = 2 // changes something outside the databases: users, functions
	Control        Class = 3 // USE, SET, SYSTEM, BACKUP, …
	Unknown        Class = 4 // cannot be parsed
)

// Error is an exception of the engine.
type Error struct {
	Code    int    // ClickHouse's error code, such as 60 for UNKNOWN_TABLE
	Message string // "Code: 60. DB::Exception: … (UNKNOWN_TABLE)"
}

func (e *Error) Error() string { return e.Message }

// versionSuffix matches the end of some messages; the protocol servers add it.
var versionSuffix = regexp.MustCompile(`( \(version [^()]*(\([^()]*\))?\))+$`)

var errorCode = regexp.MustCompile(`Code: (\d+)\.`)

// parseError parses the code at the start of the engine's messages. Repeated wrappings ("Code: 1. DB::Exception: Code: 1.
// DB::Exception: …") are removed.
func parseError(message string) *Error {
	message = versionSuffix.ReplaceAllString(strings.TrimSpace(message), "")
	err := &Error{Code: 1002} // UNKNOWN_EXCEPTION
	if m := errorCode.FindStringSubmatchIndex(message); m != nil {
		err.Code, _ = strconv.Atoi(message[m[2]:m[3]])
		message = message[m[0]:]
		prefix := "Code: " + strconv.Itoa(err.Code) + ". DB::Exception: "
		for strings.HasPrefix(message, prefix+prefix) {
			message = message[len(prefix):]
		}
	} else {
		message = "Code: 1002. DB::Exception: " + message
	}
	err.Message = message
	return err
}
