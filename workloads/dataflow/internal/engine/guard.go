// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"runtime/debug"
	"strings"
)

// guard turns a panic of a connector or transform into an error, so that one bad record does not crash the
// process again and again. The stack goes to the log, never to the status.
func guard(e *Engine, what string, call func() error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			e.log.Error("panic in "+what, "stack", string(debug.Stack()))
			err = fmt.Errorf("internal error in %s", what)
		}
	}()
	return call()
}

// publicKeys lists the keys of a binding that may be logged; every other value is kept out of errors.
var publicKeys = map[string]bool{
	"type": true, "provider": true, "host": true, "port": true, "database": true,
	"bootstrap-servers": true, "sasl-mechanism": true, "tls": true, "username": true,
}

// scrub removes a connection's secrets from an error's text, and limits its length.
func scrub(err error, connection map[string]string) string {
	const limit = 1024
	text := err.Error()
	for key, value := range connection {
		if value = strings.TrimSpace(value); !publicKeys[key] && len(value) >= 4 {
			text = strings.ReplaceAll(text, value, "***")
		}
	}
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "") + "…"
	}
	return text
}
