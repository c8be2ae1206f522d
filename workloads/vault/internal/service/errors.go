// SPDX-License-Identifier: Apache-2.0

package service

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/itechsmart/operator/workloads/internal/api"
	wire "github.com/itechsmart/operator/workloads/vault/client"
	"github.com/itechsmart/operator/workloads/vault/internal/material"
	"github.com/itechsmart/operator/workloads/vault/internal/store"
)

// object returns the name of a secret, or of a version of it, in the audit log.
func object(path string, version int64) string {
	if version == 0 {
		return "secret/" + path
	}
	return "secret/" + path + "@" + strconv.FormatInt(version, 10)
}

// retryAfter is when to retry while the vault is sealed or busy.
const retryAfter = 5 * time.Second

// known are the store's errors and the responses to them; the first match applies.
var known = []api.Known{
	{Err: store.ErrSealed, Response: api.Retry(retryAfter, http.StatusServiceUnavailable, "sealed", "the vault is sealed: unseal it first")},
	{Err: store.ErrUninitialized, Response: api.Retry(retryAfter, http.StatusServiceUnavailable, "sealed", "the vault has no root key yet: initialize it first")},
	{Err: store.ErrInitialized, Response: api.Error(http.StatusConflict, "initialized", "the vault already has a root key")},
	{Err: store.ErrPassphrase, Response: api.Error(http.StatusUnprocessableEntity, "wrong_shares", "the passphrase or the shares are wrong")},
	{Err: store.ErrNotFound, Response: api.NotFound("secret or version")},
	{Err: store.ErrExists, Response: api.Conflict("a secret already exists at this path")},
	{Err: store.ErrStale, Response: api.Precondition("there is a newer version")},
	{Err: store.ErrChanged, Response: api.Conflict("another version was written meanwhile: send the file again")},
	{Err: store.ErrBusy, Response: api.Retry(retryAfter, http.StatusServiceUnavailable, "busy", "too many files are being written: try again later")},
	{Err: store.ErrStreamed, Response: api.Error(http.StatusUnprocessableEntity, wire.CodeStreamed, "the file has over 1 MiB: GET /api/v1/secrets/{path}/content reads it as a stream")},
	{Err: store.ErrDeleted, Response: api.Error(http.StatusGone, "deleted", "the version is deleted; undelete restores it")},
	{Err: store.ErrDestroyed, Response: api.Error(http.StatusGone, "destroyed", "the version is destroyed")},
	{Err: store.ErrNotGenerated, Response: api.Error(http.StatusUnprocessableEntity, "not_generated", "the secret is neither generated nor issued: write a new version")},
	// Not a failure of the service: the row was moved, truncated or forged. The log has the details.
	{Err: store.ErrCorrupt, Response: api.Error(http.StatusUnprocessableEntity, "corrupt", "the stored value does not open: it was modified outside the vault",
		api.Detail{Field: "path.path", Message: "this version does not open"})},
}

// answer returns the response to an error of the store. Fields are named as in the request's body.
func answer(err error) error { return answerIn("body.", err) }

// answerIn returns answer with another prefix for the names of fields.
func answerIn(where string, err error) error {
	return api.Answer(err, append(slices.Clone(known), api.Known{
		Err: store.ErrInvalid, Response: api.Invalid(strings.TrimSuffix(where, "."), "the request is invalid"),
	}), func(err error) error {
		if field, ok := errors.AsType[*material.FieldError](err); ok && errors.Is(err, store.ErrInvalid) {
			return api.Invalid(where+field.Field, field.Message)
		}
		return nil
	})
}
