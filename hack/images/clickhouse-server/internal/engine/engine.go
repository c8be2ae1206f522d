// SPDX-License-Identifier: Apache-2.0

// Package engine runs the ClickHouse engine inside the process, through libchdb.
package engine

// #include "chdb.h"
import "C"

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Options configure the engine.
type Options struct {
	Library     string // path of libchdb.so
	Path        string // data directory
	Connections int    // statements at once, at least 1
}

// Engine is the running engine with its pool of sessions.
type Engine struct {
	args    []string
	anchor  *Conn // never acquired: the engine stops when its last connection closes
	slots   chan struct{}
	mu      sync.Mutex
	idle    []*Conn
	Version string // of ClickHouse, such as 26.7.2.1
}

// Session has the database and the non-default settings of a statement.
type Session struct {
	Database string
	Settings map[string]string
}

// Open loads the library and boots the engine on the data directory.
func Open(opts Options) (*Engine, error) {
	if opts.Connections < 1 {
		return nil, fmt.Errorf("connections: %d is less than 1", opts.Connections)
	}
	path, err := filepath.Abs(opts.Path)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	backups := filepath.Join(path, "backups")
	if err := os.MkdirAll(backups, 0o750); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := load(opts.Library); err != nil {
		return nil, err
	}
	e := &Engine{
		args: []string{
			"clickhouse", "--path=" + path, "--backups.allowed_path=" + backups,
			// Its timers interrupt by signals, which belong to the Go runtime here.
			"--query_profiler_real_time_period_ns=0", "--query_profiler_cpu_time_period_ns=0",
			// The library parses a lone expression as a SELECT; the server does not.
			"--implicit_select=0",
		},
		slots: make(chan struct{}, opts.Connections),
	}
	if e.anchor, err = connect(e.args); err != nil {
		return nil, err
	}
	result, err := e.anchor.Query("SELECT version()", "TSVRaw", nil)
	if err != nil {
		return nil, fmt.Errorf("query the engine's version: %w", err)
	}
	defer result.Free()
	e.Version = strings.TrimSpace(string(result.Bytes()))
	return e, nil
}

// LibraryVersion returns the version of libchdb itself.
func LibraryVersion() string { return C.GoString(C.ch_version()) }

// Acquire returns a connection in the session, waiting for a free one. Return it by Release.
func (e *Engine) Acquire(ctx context.Context, session Session) (*Conn, error) {
	select {
	case e.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	conn, err := e.take(session)
	if err == nil {
		err = conn.enter(session)
	}
	if err != nil {
		if conn != nil {
			e.Release(conn)
		} else {
			<-e.slots
		}
		return nil, err
	}
	return conn, nil
}

// take prefers an idle connection that is already in the session.
func (e *Engine) take(session Session) (*Conn, error) {
	e.mu.Lock()
	if n := len(e.idle); n > 0 {
		at := n - 1
		for i := n - 1; i >= 0; i-- {
			if e.idle[i].in(session) {
				at = i
				break
			}
		}
		conn := e.idle[at]
		e.idle = slices.Delete(e.idle, at, at+1)
		e.mu.Unlock()
		return conn, nil
	}
	e.mu.Unlock()
	return connect(e.args)
}

// Release returns a connection; a retired one is closed.
func (e *Engine) Release(conn *Conn) {
	if conn.retired {
		conn.close()
	} else {
		e.mu.Lock()
		e.idle = append(e.idle, conn)
		e.mu.Unlock()
	}
	<-e.slots
}

func (c *Conn) in(session Session) bool {
	return c.database == session.Database && maps.Equal(c.settings, session.Settings)
}

// enter moves the connection into the session, with as few statements as possible.
func (c *Conn) enter(session Session) error {
	if c.database != session.Database {
		if err := c.exec("USE " + QuoteIdentifier(session.Database)); err != nil {
			return err
		}
		c.database = session.Database
	}
	if maps.Equal(c.settings, session.Settings) {
		return nil
	}
	var changes []string
	for name := range c.settings {
		if _, stays := session.Settings[name]; !stays {
			changes = append(changes, QuoteIdentifier(name)+" = DEFAULT")
		}
	}
	for name, value := range session.Settings {
		if old, set := c.settings[name]; !set || old != value {
			changes = append(changes, QuoteIdentifier(name)+" = "+QuoteString(value))
		}
	}
	slices.Sort(changes)
	// A failure half-way leaves an unknown session.
	if err := c.exec("SET " + strings.Join(changes, ", ")); err != nil {
		c.Retire()
		return err
	}
	c.settings = maps.Clone(session.Settings)
	return nil
}

// QuoteIdentifier quotes a name for SQL.
func QuoteIdentifier(name string) string {
	return "`" + strings.NewReplacer(`\`, `\\`, "`", "\\`").Replace(name) + "`"
}

// QuoteString quotes a value for SQL.
func QuoteString(value string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
}
