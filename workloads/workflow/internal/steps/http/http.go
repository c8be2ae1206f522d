// SPDX-License-Identifier: Apache-2.0

// Package http is the step type that sends an HTTP request.
package http

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/itechsmart/operator/workloads/internal/dialguard"
	"github.com/itechsmart/operator/workloads/workflow/internal/engine"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/step"
)

// Spec describes the type.
func Spec() step.Spec {
	return step.Spec{
		Type: "http", Summary: "Sends an HTTP request; its output is the status, headers and body of the response.",
		New: func(env step.Env) engine.Executor { return newExecutor(env) },
	}
}

const (
	maxRedirects = 5
	// maxRetryAfter bounds the delay of a Retry-After.
	maxRetryAfter = time.Hour
	// drain is how much of an unread response is read, so that the connection can be reused.
	drain = 64 << 10
	// shown is how much of an error response is quoted.
	shown = 300
)

type executor struct {
	env     step.Env
	clients *clients
}

func newExecutor(env step.Env) *executor {
	guard := dialguard.FromEnv()
	guard.Private = env.Private
	return &executor{env: env, clients: newClients(guard)}
}

// Close ends idle connections.
func (e *executor) Close() error {
	e.clients.close()
	return nil
}

func (e *executor) Execute(ctx context.Context, call engine.Call) (engine.Result, error) {
	if err := ctx.Err(); err != nil {
		return engine.Result{}, err
	}
	r, err := read(call.Config, e.env)
	if err != nil {
		return engine.Result{}, err
	}
	client, err := e.clients.get(r.connection, r.binding)
	if err != nil {
		return engine.Result{}, step.Classify(err)
	}
	limited, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	request, err := r.request(limited, call.Key)
	if err != nil {
		return engine.Result{}, err
	}
	client.CheckRedirect = r.redirect
	response, err := client.Do(request)
	if err != nil {
		return engine.Result{}, r.broken(ctx, err)
	}
	defer response.Body.Close()
	if !r.expected(response.StatusCode) {
		return engine.Result{}, r.refused(response)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, r.maxBytes+1))
	if err != nil {
		return engine.Result{}, r.broken(ctx, err)
	}
	if int64(len(body)) > r.maxBytes {
		return engine.Result{}, step.Refuse("%s: the response has more than %d bytes; raise with.maxResponseBytes if that is expected", r.name, r.maxBytes)
	}
	return engine.Result{Output: r.output(response, body)}, nil
}

// errRedirect is the reason why a redirect is not followed.
type errRedirect struct{ reason string }

func (e errRedirect) Error() string { return e.reason }

// redirect follows redirects within the host. To other hosts it follows only GET and HEAD, without the step's headers, which are
// meant for the step's host. The address is checked when it is dialed, like any other.
func (r *request) redirect(next *http.Request, via []*http.Request) error {
	first := via[0]
	switch {
	case r.expected(next.Response.StatusCode):
		return http.ErrUseLastResponse // the redirect is the expected response
	case len(via) > maxRedirects:
		return errRedirect{fmt.Sprintf("more than %d redirects", maxRedirects)}
	case next.URL.Scheme != "http" && next.URL.Scheme != "https":
		return errRedirect{"redirect to a scheme other than http or https"}
	case sameHost(next.URL, first.URL):
		return nil
	case r.connection != "":
		return errRedirect{"redirect to a host other than the connection's"}
	case first.URL.Scheme == "https" && next.URL.Scheme != "https":
		return errRedirect{"redirect from https to http"}
	case next.Method != http.MethodGet && next.Method != http.MethodHead:
		return errRedirect{"redirect of a " + next.Method + " to another host"}
	}
	next.Header = http.Header{"User-Agent": {userAgent}} //nolint:gosec // G119: it removes headers and adds none
	return nil
}

func sameHost(a, b *url.URL) bool { return a.Scheme == b.Scheme && strings.EqualFold(a.Host, b.Host) }

// broken returns the error of a request without a response. Refused addresses are permanent errors; others may be temporary.
func (r *request) broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var refused errRedirect
	switch {
	case errors.Is(err, dialguard.ErrRefused):
		return step.Refuse("with.url: %s: %w", r.name, dialguard.ErrRefused)
	case errors.As(err, &refused):
		return step.Refuse("%s: %s", r.name, refused.reason)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: no response within with.timeout of %s", r.name, r.timeout)
	}
	// net/http's error contains the URL, whose path and query may have a key.
	var wrapped *url.Error
	for errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	return fmt.Errorf("%s: %s", r.name, r.hide(err.Error()))
}

// expected reports whether the step expects a status.
func (r *request) expected(status int) bool {
	for _, wanted := range r.expect {
		if wanted == status || wanted < 10 && wanted == status/100 {
			return true
		}
	}
	return false
}

// refused returns the error of an unexpected response. Statuses about the state of the server may be temporary.
func (r *request) refused(response *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(response.Body, drain)) // a part is enough
	err := fmt.Errorf("%s: status %d %s", r.name, response.StatusCode, http.StatusText(response.StatusCode))
	if content := r.printable(text, response.Header.Get("Content-Type")); content != "" {
		err = fmt.Errorf("%w: %s", err, content)
	}
	switch status := response.StatusCode; {
	case status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout || status == http.StatusTooEarly:
		if after := retryAfter(response.Header.Get("Retry-After"), r.now()); after > 0 {
			return &step.RetryLater{Err: err, After: after}
		}
		return err
	}
	return &engine.Permanent{Err: err}
}

// retryAfter parses seconds or a date.
func retryAfter(text string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseInt(text, 10, 32); err == nil {
		return min(max(0, time.Duration(seconds)*time.Second), maxRetryAfter)
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(0, at.Sub(now)), maxRetryAfter)
	}
	return 0
}
