// SPDX-License-Identifier: Apache-2.0

package service

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/internal/api/problem"
	"github.com/itechsmart/operator/workloads/internal/db"
	wire "github.com/itechsmart/operator/workloads/vault/client"
	"github.com/itechsmart/operator/workloads/vault/internal/material"
	"github.com/itechsmart/operator/workloads/vault/internal/store"
)

// object names a secret, or a version of it, in the audit log.
func object(path string, version int64) string {
	if version == 0 {
		return "secret/" + path
	}
	return "secret/" + path + "@" + strconv.FormatInt(version, 10)
}

// known are the store's errors as answers, in the order in which they are looked for.
var known = []struct {
	err           error
	status        int
	code, message string
}{
	{store.ErrSealed, http.StatusServiceUnavailable, "sealed", "the vault is sealed: unseal it first"},
	{store.ErrUninitialized, http.StatusServiceUnavailable, "sealed", "the vault has no root key yet: initialize it first"},
	{store.ErrInitialized, http.StatusConflict, "initialized", "the vault has a root key already"},
	{store.ErrPassphrase, http.StatusUnprocessableEntity, "wrong_shares", "the passphrase or the shares are wrong"},
	{store.ErrNotFound, http.StatusNotFound, "not_found", "no such secret or version"},
	{store.ErrExists, http.StatusConflict, "conflict", "there is a secret at this path already"},
	{store.ErrStale, http.StatusPreconditionFailed, "precondition_failed", "somebody has written a newer version"},
	{store.ErrChanged, http.StatusConflict, "conflict", "somebody has written a version meanwhile: send the file again"},
	{store.ErrBusy, http.StatusServiceUnavailable, "busy", "as many files are being written as may be at one time: try again"},
	{store.ErrStreamed, http.StatusUnprocessableEntity, wire.CodeStreamed, "the file has over 1 MiB: GET /api/v1/secrets/{path}/content reads it as a stream"},
	{store.ErrDeleted, http.StatusGone, "deleted", "the version is deleted; undelete brings it back"},
	{store.ErrDestroyed, http.StatusGone, "destroyed", "the version is destroyed"},
	{store.ErrNotGenerated, http.StatusUnprocessableEntity, "not_generated", "the secret is neither generated nor issued: write a new version"},
}

// answer makes an error of the store an answer. Fields are named as in the request's body.
func answer(err error) error { return answerIn("body.", err) }

// answerIn names fields with this prefix.
func answerIn(where string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*problem.Error](err); ok {
		return err
	}
	if field, ok := errors.AsType[*material.FieldError](err); ok && errors.Is(err, store.ErrInvalid) {
		return api.Invalid(where+field.Field, field.Message)
	}
	for _, k := range known {
		if errors.Is(err, k.err) {
			e := problem.New(k.status, k.code, k.message)
			if k.status == http.StatusServiceUnavailable {
				e.Headers = http.Header{"Retry-After": {"5"}}
			}
			return e
		}
	}
	switch {
	case errors.Is(err, store.ErrCorrupt):
		// Not a failure of the service: the row was moved, cut or forged. The log tells more.
		e := problem.New(http.StatusUnprocessableEntity, "corrupt", "the stored value does not open: it was changed outside of the vault",
			api.Detail{Field: "path.path", Message: "this version does not open"})
		e.Cause = err
		return e
	case errors.Is(err, store.ErrInvalid):
		return api.Because(api.Invalid(strings.TrimSuffix(where, "."), "it is refused as it stands"), err)
	case db.Unavailable(err):
		return api.Because(api.Unavailable(2*time.Second, "the database does not answer; try again"), err)
	default:
		return err
	}
}
