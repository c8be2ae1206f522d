// SPDX-License-Identifier: Apache-2.0

// Package sql is the step type that executes a statement on a PostgreSQL database.
package sql

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/itechsmart/operator/internal/backend"
	pg "github.com/itechsmart/operator/internal/backend/postgres"
	"github.com/itechsmart/operator/workloads/workflow/internal/engine"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/step"
)

// Spec describes the type.
func Spec() step.Spec {
	return step.Spec{
		Type: "sql", Summary: "Executes a statement on a PostgreSQL database; its output is the rows, or the number of affected rows.",
		New: func(env step.Env) engine.Executor { return newExecutor(env) },
	}
}

const (
	modeQuery   = "query"
	modeExec    = "exec"
	defaultRows = 1000
	maxRows     = 100_000
	maxArgs     = 1000
	// maxConns bounds the connections to one database.
	maxConns = 8
	// cancelWait is how long a server may take to cancel the statement of a canceled step before the connection is closed.
	cancelWait = 2 * time.Second
	// messageBytes is the allowance for one message of the server beyond the limit of the output.
	messageBytes = 1 << 20
)

type executor struct {
	env  step.Env
	pool *step.Pool[*pgxpool.Pool]
}

func newExecutor(env step.Env) *executor {
	e := &executor{env: env}
	e.pool = step.NewPool(e.open, (*pgxpool.Pool).Close)
	return e
}

// Close ends the connections.
func (e *executor) Close() error {
	e.pool.Close()
	return nil
}

// open returns a pool, which connects on first use.
func (e *executor) open(b backend.Binding) (*pgxpool.Pool, error) {
	config, err := pg.Config(b)
	if err != nil {
		return nil, err
	}
	config.MaxConns = maxConns
	config.MaxConnIdleTime = time.Minute
	// A row is one message, which is read into memory: bound it by the size of an output.
	config.ConnConfig.MaxProtocolMessageBodyLen = e.env.MaxOutput + messageBytes
	// A canceled step also cancels its statement on the server.
	config.ConnConfig.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: cancelWait}
	}
	return pgxpool.NewWithConfig(context.Background(), config)
}

// statement is a parsed `with`.
type statement struct {
	connection, text, mode string
	args                   []any // each nil, a string, or a list
	maxRows, maxBytes      int
}

func read(call engine.Call, maxBytes int) (statement, error) {
	config := step.Read(call.Config)
	s := statement{connection: config.Required("connection"), text: config.Required("query"), mode: config.OneOf("mode", modeQuery, modeExec), maxBytes: maxBytes}
	args := config.List("args")
	if len(args) > maxArgs {
		config.Problem("args", "has more than %d", maxArgs)
		args = nil
	}
	for i, arg := range args {
		value, err := parameter(arg, call.Key)
		if err != nil {
			config.Problem(fmt.Sprintf("args[%d]", i), "%v", err)
		}
		s.args = append(s.args, value)
	}
	s.maxRows = config.Int("maxRows", defaultRows, 1, maxRows)
	if strings.ContainsRune(s.text, 0) {
		config.Problem("query", "contains a NUL character")
	}
	return s, config.Err()
}

func (e *executor) Execute(ctx context.Context, call engine.Call) (engine.Result, error) {
	if err := ctx.Err(); err != nil {
		return engine.Result{}, err
	}
	s, err := read(call, e.env.MaxOutput)
	if err != nil {
		return engine.Result{}, err
	}
	b, err := e.env.Connect(s.connection, "postgresql")
	if err != nil {
		return engine.Result{}, err
	}
	pool, done, err := e.pool.Get(s.connection, b)
	if err != nil {
		return engine.Result{}, step.Classify(err)
	}
	defer done()
	output, err := s.execute(ctx, pool)
	if err != nil {
		return engine.Result{}, failure(ctx, b, err)
	}
	return engine.Result{Output: output}, nil
}

func (s statement) execute(ctx context.Context, pool *pgxpool.Pool) (output map[string]any, err error) {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	args, err := s.parameters(ctx, conn.Conn())
	if err != nil {
		return nil, err
	}
	if s.mode == modeExec {
		tag, err := conn.Exec(ctx, s.text, args...)
		return map[string]any{"rowsAffected": tag.RowsAffected()}, err
	}
	// In a transaction, so that the changes are rolled back if there are too many rows.
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		output, err = s.query(ctx, tx, args)
		return err
	})
	return output, err
}

// wrongCount matches the driver's own check, which has no error type.
var wrongCount = regexp.MustCompile(`expected \d+ arguments, got \d+`)

// failure separates temporary from permanent errors.
func failure(ctx context.Context, b backend.Binding, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var permanent *engine.Permanent
	if errors.As(err, &permanent) {
		return err
	}
	var answer *pgconn.PgError
	if errors.As(err, &answer) {
		reported := fmt.Errorf("with.query: %s (SQLSTATE %s)", b.Redact(answer.Message), answer.Code)
		if temporary(answer.Code) || answer.Code == "0A000" && strings.HasPrefix(answer.Message, "cached plan") { // a table has changed
			return reported
		}
		return &engine.Permanent{Err: reported}
	}
	if counted := wrongCount.FindString(err.Error()); counted != "" {
		return step.Refuse("with.args: %s", counted)
	}
	var large *pgproto3.ExceededMaxBodyLenErr
	if errors.As(err, &large) {
		return step.Refuse("with.query: a row is larger than the limit of outputs")
	}
	return step.Classify(pg.Error(b, "sql", err))
}

// temporary reports whether a retry may succeed: after serialization failures, deadlocks and lock timeouts, or when a server is
// full or shuts down.
func temporary(code string) bool {
	if len(code) != 5 {
		return false
	}
	switch code[:2] {
	case "08", "40", "53", "58":
		return true
	case "57":
		return code != "57014" // canceled, by an administrator or the server's timeout
	}
	return code == "55P03" || code == "55006"
}
