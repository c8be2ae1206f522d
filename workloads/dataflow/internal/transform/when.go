// SPDX-License-Identifier: Apache-2.0

package transform

import (
	"time"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config/expr"
)

// view exposes one record to an expression.
type view struct {
	r   *record.Record
	now func() time.Time
}

func (v *view) Raw() ([]byte, bool) { return v.r.Raw() }
func (v *view) Tree() (any, error)  { return v.r.Tree() }
func (v *view) Decoded() bool       { return v.r.Decoded() }
func (v *view) Key() string         { return string(v.r.Key) }
func (v *view) Time() time.Time     { return v.r.Time }
func (v *view) Now() time.Time      { return v.now() }

func (v *view) Headers() map[string]string {
	headers := make(map[string]string, len(v.r.Headers))
	for i := range v.r.Headers {
		headers[v.r.Headers[i].Key] = string(v.r.Headers[i].Value)
	}
	return headers
}

// evaluator runs one program over records, one at a time.
type evaluator struct {
	program *expr.Program
	view    view
}

func newEvaluator(program *expr.Program, now func() time.Time) *evaluator {
	return &evaluator{program: program, view: view{now: now}}
}

// value returns the expression's result as a decoded value.
func (e *evaluator) value(r *record.Record) (any, error) {
	e.view.r = r
	defer e.release()
	return e.program.Eval(&e.view)
}

// release drops the reference to the record, which may be large, until the next one.
func (e *evaluator) release() { e.view.r = nil }

// matcher is a predicate over records; nil matches every record.
type matcher evaluator

func newMatcher(program *expr.Program, now func() time.Time) *matcher {
	return (*matcher)(newEvaluator(program, now))
}

func (m *matcher) match(r *record.Record) (bool, error) {
	if m == nil {
		return true, nil
	}
	m.view.r = r
	result, err := m.program.EvalBool(&m.view)
	m.view.r = nil
	return result, err
}
