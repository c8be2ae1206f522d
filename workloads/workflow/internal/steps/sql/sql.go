// SPDX-License-Identifier: Apache-2.0

// Package sql executes one statement on a PostgreSQL database.
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
		Type: "sql", Summary: "Executes a statement on a PostgreSQL database; its output is rows, or how many were affected.",
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
	// cancelWait is how long a server has to end a statement whose step ended, before the connection is closed.
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

// open prepares a pool; it connects when it is used.
func (e *executor) open(b backend.Binding) (*pgxpool.Pool, error) {
	config, err := pg.Config(b)
	if err != nil {
		return nil, err
	}
	config.MaxConns = maxConns
	config.MaxConnIdleTime = time.Minute
	// A row is one message, which is read as a whole: it must not be larger than an output may be.
	config.ConnConfig.MaxProtocolMessageBodyLen = e.env.MaxOutput + messageBytes
	// The end of a step ends its statement on the server, too.
	config.ConnConfig.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: cancelWait}
	}
	return pgxpool.NewWithConfig(context.Background(), config)
}

// statement is a step's `with`, read.
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
		config.Problem("query", "holds a zero character")
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
		return engine.Result{}, step.Sort(err)
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
	// Within a transaction: too many rows undo what the statement changed.
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		output, err = s.query(ctx, tx, args)
		return err
	})
	return output, err
}

// wrongCount is the driver's own check, which has no type.
var wrongCount = regexp.MustCompile(`expected \d+ arguments, got \d+`)

// failure keeps what may be otherwise the next time apart from what another attempt would meet again.
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
		told := fmt.Errorf("with.query: %s (SQLSTATE %s)", b.Redact(answer.Message), answer.Code)
		if temporary(answer.Code) || answer.Code == "0A000" && strings.HasPrefix(answer.Message, "cached plan") { // a table has changed
			return told
		}
		return &engine.Permanent{Err: told}
	}
	if counted := wrongCount.FindString(err.Error()); counted != "" {
		return step.Refuse("with.args: %s", counted)
	}
	var large *pgproto3.ExceededMaxBodyLenErr
	if errors.As(err, &large) {
		return step.Refuse("with.query: a row is larger than a step's output may be")
	}
	return step.Sort(pg.Error(b, "sql", err))
}

// temporary reports whether an error may pass: serialization failures, deadlocks, lock timeouts, and a server that is full or shuts down.
func temporary(code string) bool {
	if len(code) != 5 {
		return false
	}
	switch code[:2] {
	case "08", "40", "53", "58":
		return true
	case "57":
		return code != "57014" // cancelled, by an administrator or the server's own timeout
	}
	return code == "55P03" || code == "55006"
}
