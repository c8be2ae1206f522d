// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/itechsmart/operator/workloads/internal/api/problem"
)

func TestAnswer(t *testing.T) {
	errGone, errSealed, errField := errors.New("gone"), errors.New("sealed"), errors.New("field")
	known := []Known{
		{Err: errGone, Response: Error(http.StatusGone, "gone", "it is gone", Detail{Field: "path.id", Message: "gone"})},
		{Err: errSealed, Response: Retry(1500*time.Millisecond, http.StatusServiceUnavailable, "sealed", "unseal it first")},
	}
	specific := func(err error) error {
		if errors.Is(err, errField) {
			return Invalid("body.field", "is wrong")
		}
		return nil
	}
	for name, c := range map[string]struct {
		err     error
		status  int
		code    string
		field   string
		retry   string
		noCause bool
	}{
		"known":            {err: fmt.Errorf("read: %w", errGone), status: http.StatusGone, code: "gone", field: "path.id"},
		"known, retry":     {err: fmt.Errorf("read: %w", errSealed), status: http.StatusServiceUnavailable, code: "sealed", retry: "2"},
		"specific first":   {err: errors.Join(errGone, errField), status: http.StatusUnprocessableEntity, code: "invalid", field: "body.field", noCause: true},
		"a response":       {err: Because(Conflict("it exists"), errGone), status: http.StatusConflict, code: "conflict"},
		"no database":      {err: fmt.Errorf("query: %w", &pgconn.PgError{Code: "57P01"}), status: http.StatusServiceUnavailable, code: "unavailable", retry: "2"},
		"the first of two": {err: errors.Join(errSealed, errGone), status: http.StatusGone, code: "gone", field: "path.id"},
	} {
		e, ok := errors.AsType[*problem.Error](Answer(c.err, known, specific))
		if !ok || e.Status != c.status || e.Code != c.code || e.Headers.Get("Retry-After") != c.retry || (e.Cause == nil) != c.noCause {
			t.Errorf("%s: %+v", name, e)
			continue
		}
		if field := ""; len(e.Details) > 0 && e.Details[0].Field != c.field || len(e.Details) == 0 && c.field != field {
			t.Errorf("%s: details %v, want field %q", name, e.Details, c.field)
		}
	}
	if err := Answer(nil, known, specific); err != nil {
		t.Errorf("no error: %v", err)
	}
	other := errors.New("other")
	if err := Answer(other, known, specific); !errors.Is(err, other) {
		t.Errorf("another error: %v", err)
	}
	if e, _ := errors.AsType[*problem.Error](known[0].Response); e.Cause != nil {
		t.Error("a response changed the list")
	}
}
