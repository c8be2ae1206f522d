// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"

	"github.com/itechsmart/operator/internal/backend"
	vault "github.com/itechsmart/operator/workloads/vault/client"
)

// serve implements the REST contract over a fake, to test the client without the service.
func serve(fake *vault.Fake) http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, status int, f func(*http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			data, err := f(r)
			if err != nil {
				refuse(w, err)
				return
			}
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(map[string]any{"success": true, "data": data})
		})
	}
	const one = " /api/v1/secrets/{path}"
	handle("GET /api/v1/secrets", 200, func(r *http.Request) (any, error) {
		q := r.URL.Query()
		limit, _ := strconv.Atoi(q.Get("limit"))
		return fake.Secrets(r.Context(), vault.List{Prefix: q.Get("prefix"), Type: q.Get("type"), Cursor: q.Get("cursor"), Limit: limit})
	})
	handle("POST /api/v1/secrets", 201, func(r *http.Request) (any, error) {
		body, err := read[struct {
			Path string `json:"path"`
			vault.Write
		}](r)
		if err != nil {
			return nil, err
		}
		return fake.Create(r.Context(), body.Path, body.Write)
	})
	handle("GET"+one, 200, func(r *http.Request) (any, error) { return fake.Secret(r.Context(), r.PathValue("path")) })
	handle("PUT"+one, 200, func(r *http.Request) (any, error) {
		body, err := read[vault.Write](r)
		if err != nil {
			return nil, err
		}
		return fake.Put(r.Context(), r.PathValue("path"), body)
	})
	handle("DELETE"+one, 200, func(r *http.Request) (any, error) {
		return nil, fake.Delete(r.Context(), r.PathValue("path"), r.URL.Query().Get("destroy") == "true")
	})
	handle("GET"+one+"/value", 200, func(r *http.Request) (any, error) {
		return fake.Read(r.Context(), r.PathValue("path"), number(r.URL.Query().Get("version")))
	})
	handle("GET"+one+"/versions", 200, func(r *http.Request) (any, error) {
		return fake.Versions(r.Context(), r.PathValue("path"), r.URL.Query().Get("cursor"))
	})
	handle("GET"+one+"/diff", 200, func(r *http.Request) (any, error) {
		q := r.URL.Query()
		return fake.Diff(r.Context(), r.PathValue("path"), number(q.Get("from")), number(q.Get("to")))
	})
	handle("POST"+one+"/rotate", 200, func(r *http.Request) (any, error) { return fake.Rotate(r.Context(), r.PathValue("path")) })
	handle("POST"+one+"/rollback", 200, func(r *http.Request) (any, error) {
		body, err := read[struct {
			Version int64 `json:"version"`
		}](r)
		if err != nil {
			return nil, err
		}
		return fake.Rollback(r.Context(), r.PathValue("path"), body.Version)
	})
	handle("POST"+one+"/apply", 200, func(r *http.Request) (any, error) {
		body, err := read[vault.Apply](r)
		if err != nil {
			return nil, err
		}
		return fake.Apply(r.Context(), r.PathValue("path"), body)
	})
	for pattern, f := range map[string]func(*http.Request, string, int64) error{
		"DELETE" + one + "/versions/{n}":        func(r *http.Request, p string, n int64) error { return fake.DeleteVersion(r.Context(), p, n) },
		"POST" + one + "/versions/{n}/undelete": func(r *http.Request, p string, n int64) error { return fake.UndeleteVersion(r.Context(), p, n) },
		"POST" + one + "/versions/{n}/destroy":  func(r *http.Request, p string, n int64) error { return fake.DestroyVersion(r.Context(), p, n) },
	} {
		handle(pattern, 200, func(r *http.Request) (any, error) { return nil, f(r, r.PathValue("path"), number(r.PathValue("n"))) })
	}
	handle("GET /api/v1/seal-status", 200, func(r *http.Request) (any, error) { return fake.SealStatus(r.Context()) })
	handle("GET /api/v1/sealing-key", 200, func(r *http.Request) (any, error) { return fake.SealingKey(r.Context()) })
	handle("POST /api/v1/unseal", 200, func(r *http.Request) (any, error) {
		body, err := read[struct {
			Share string `json:"share"`
		}](r)
		if err != nil {
			return nil, err
		}
		return fake.Unseal(r.Context(), body.Share)
	})
	handle("POST /api/v1/seal", 200, func(r *http.Request) (any, error) { return nil, fake.Seal(r.Context()) })
	handle("POST /api/v1/rewrap", 202, func(r *http.Request) (any, error) { return nil, fake.Rewrap(r.Context()) })
	handle("POST /api/v1/keys/rotate", 200, func(r *http.Request) (any, error) { return nil, fake.RotateKey(r.Context()) })
	return mux
}

func number(text string) int64 {
	n, _ := strconv.ParseInt(text, 10, 64)
	return n
}

// read refuses unknown fields, as the service does.
func read[T any](r *http.Request) (T, error) {
	var out T
	decoder := json.NewDecoder(io.LimitReader(r.Body, 4<<20))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&out); err != nil {
		return out, backend.ErrInvalid
	}
	return out, nil
}

func refuse(w http.ResponseWriter, err error) {
	status, code := http.StatusServiceUnavailable, "unavailable"
	switch {
	case errors.Is(err, vault.ErrSealed):
		code = "sealed"
	case errors.Is(err, vault.ErrStreamed):
		status, code = http.StatusUnprocessableEntity, vault.CodeStreamed
	case errors.Is(err, vault.ErrStale):
		status, code = http.StatusPreconditionFailed, "stale"
	case errors.Is(err, backend.ErrNotFound):
		status, code = http.StatusNotFound, "not_found"
	case errors.Is(err, backend.ErrExists):
		status, code = http.StatusConflict, "conflict"
	case errors.Is(err, backend.ErrInvalid):
		status, code = http.StatusUnprocessableEntity, "invalid"
	case errors.Is(err, backend.ErrAuth):
		status, code = http.StatusForbidden, "forbidden"
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"success": false, "error": map[string]string{"code": code, "message": err.Error()}})
}
