// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/itechsmart/operator/workloads/internal/api/problem"
	"github.com/itechsmart/operator/workloads/internal/db"
)

// Base is the path of the API: all operations are below it.
const Base = "/api/v1"

// Operation describes an endpoint below Base. errs are the error statuses besides those of all endpoints.
func Operation(tag, id, method, path, summary string, errs ...int) huma.Operation {
	return huma.Operation{
		OperationID: id, Method: method, Path: Base + path, Summary: summary, Errors: errs, Tags: []string{tag},
		Responses: map[string]*huma.Response{}, // filled in by the registration
	}
}

// Created makes 201 the status of an operation's success.
func Created(op huma.Operation) huma.Operation {
	op.DefaultStatus = http.StatusCreated
	return op
}

// Public lets an operation be called without a login.
func Public(op huma.Operation) huma.Operation {
	op.Security = []map[string][]string{}
	return op
}

// AlsoAnswers documents success statuses of a registered operation besides 200, whose body they have, with a description
// each.
func AlsoAnswers(op huma.Operation, statuses map[string]string) {
	for status, description := range statuses {
		same := *op.Responses["200"]
		same.Description = description
		op.Responses[status] = &same
	}
}

// Reply is a response with a body.
type Reply[T any] struct{ Body T }

// Body returns the response with a body.
func Body[T any](body T) *Reply[T] { return &Reply[T]{body} }

// Tagged is a response with a body and its entity tag.
type Tagged[T any] struct {
	ETag string `header:"ETag" doc:"the newest version, for If-Match"`
	Body T
}

// Versioned returns the response with a version of a resource.
func Versioned[T any](version int64, body T) *Tagged[T] { return &Tagged[T]{ETag(version), body} }

// Empty is a response without a body.
type Empty struct{}

// Known is an error of a product, and the response to it.
type Known struct{ Err, Response error }

// Answer returns the response to an error: nil and a response unchanged, the first one that specific returns, that of the
// first Known error that err wraps, 503 if the database is unavailable, and else err, which becomes 500. The response
// keeps err as its cause, for the log.
func Answer(err error, known []Known, specific ...func(error) error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*problem.Error](err); ok {
		return err
	}
	for _, answer := range specific {
		if response := answer(err); response != nil {
			return response
		}
	}
	for _, k := range known {
		if !errors.Is(err, k.Err) {
			continue
		}
		if response, ok := errors.AsType[*problem.Error](k.Response); ok {
			caused := *response
			caused.Cause = err
			return &caused
		}
	}
	if db.Unavailable(err) {
		return Because(DatabaseUnavailable(), err)
	}
	return err
}

// DatabaseUnavailable returns 503, while the database does not respond.
func DatabaseUnavailable() error {
	return Unavailable(2*time.Second, "the database does not respond; try again")
}
