// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
)

// get, post and so on send a request and return the response as a T.
func get[T any](ctx context.Context, c *client, op, path string, query url.Values) (T, error) {
	var out T
	err := c.do(ctx, call{op: op, method: http.MethodGet, path: path, query: query}, &out)
	return out, err
}

func send[T any](ctx context.Context, c *client, op, method, path string, body any) (T, error) {
	var out T
	err := c.do(ctx, call{op: op, method: method, path: path, body: body}, &out)
	return out, err
}

// Apply implements Client.
func (c *client) Apply(ctx context.Context, path string, declared Apply) (Applied, error) {
	if err := ValidPath(path); err != nil {
		return Applied{}, err
	}
	return send[Applied](ctx, c, "apply "+path, http.MethodPost, secretPath(path, "/apply"), declared)
}

// Secret implements Client.
func (c *client) Secret(ctx context.Context, path string) (Secret, error) {
	if err := ValidPath(path); err != nil {
		return Secret{}, err
	}
	return get[Secret](ctx, c, "get "+path, secretPath(path), nil)
}

// Secrets implements Client.
func (c *client) Secrets(ctx context.Context, list List) (Page[Secret], error) {
	query := url.Values{}
	for key, value := range map[string]string{"prefix": list.Prefix, "type": list.Type, "cursor": list.Cursor} {
		if value != "" {
			query.Set(key, value)
		}
	}
	if list.Limit > 0 {
		query.Set("limit", strconv.Itoa(list.Limit))
	}
	return get[Page[Secret]](ctx, c, "list", "/secrets", query)
}

// Read implements Client.
func (c *client) Read(ctx context.Context, path string, version int64) (Read, error) {
	if err := ValidPath(path); err != nil {
		return Read{}, err
	}
	var query url.Values
	if version != 0 {
		query = url.Values{"version": {strconv.FormatInt(version, 10)}}
	}
	return get[Read](ctx, c, "read "+path, secretPath(path, "/value"), query)
}

// Versions implements Client.
func (c *client) Versions(ctx context.Context, path, cursor string) (Page[Version], error) {
	if err := ValidPath(path); err != nil {
		return Page[Version]{}, err
	}
	var query url.Values
	if cursor != "" {
		query = url.Values{"cursor": {cursor}}
	}
	return get[Page[Version]](ctx, c, "list versions of "+path, secretPath(path, "/versions"), query)
}

// Create implements Client.
func (c *client) Create(ctx context.Context, path string, value Write) (Secret, error) {
	if err := ValidPath(path); err != nil {
		return Secret{}, err
	}
	body := struct {
		Path string `json:"path"`
		Write
	}{path, value}
	return send[Secret](ctx, c, "create "+path, http.MethodPost, "/secrets", body)
}

// Put implements Client.
func (c *client) Put(ctx context.Context, path string, value Write) (Secret, error) {
	if err := ValidPath(path); err != nil {
		return Secret{}, err
	}
	return send[Secret](ctx, c, "put "+path, http.MethodPut, secretPath(path), value)
}

// Diff implements Client.
func (c *client) Diff(ctx context.Context, path string, from, to int64) ([]FieldDiff, error) {
	if err := ValidPath(path); err != nil {
		return nil, err
	}
	query := url.Values{"from": {strconv.FormatInt(from, 10)}, "to": {strconv.FormatInt(to, 10)}}
	return get[[]FieldDiff](ctx, c, "diff "+path, secretPath(path, "/diff"), query)
}

// Rotate implements Client.
func (c *client) Rotate(ctx context.Context, path string) (Secret, error) {
	if err := ValidPath(path); err != nil {
		return Secret{}, err
	}
	return send[Secret](ctx, c, "rotate "+path, http.MethodPost, secretPath(path, "/rotate"), nil)
}

// Rollback implements Client.
func (c *client) Rollback(ctx context.Context, path string, version int64) (Secret, error) {
	if err := ValidPath(path); err != nil {
		return Secret{}, err
	}
	body := map[string]int64{"version": version}
	return send[Secret](ctx, c, "roll back "+path, http.MethodPost, secretPath(path, "/rollback"), body)
}

// Delete implements Client.
func (c *client) Delete(ctx context.Context, path string, destroy bool) error {
	if err := ValidPath(path); err != nil {
		return err
	}
	var query url.Values
	if destroy {
		query = url.Values{"destroy": {"true"}}
	}
	return c.do(ctx, call{op: "delete " + path, method: http.MethodDelete, path: secretPath(path), query: query}, nil)
}

// DeleteVersion implements Client.
func (c *client) DeleteVersion(ctx context.Context, path string, version int64) error {
	return c.version(ctx, "delete a version of ", http.MethodDelete, path, version, "")
}

// UndeleteVersion implements Client.
func (c *client) UndeleteVersion(ctx context.Context, path string, version int64) error {
	return c.version(ctx, "undelete a version of ", http.MethodPost, path, version, "/undelete")
}

// DestroyVersion implements Client.
func (c *client) DestroyVersion(ctx context.Context, path string, version int64) error {
	return c.version(ctx, "destroy a version of ", http.MethodPost, path, version, "/destroy")
}

func (c *client) version(ctx context.Context, op, method, path string, version int64, more string) error {
	if err := ValidPath(path); err != nil {
		return err
	}
	return c.do(ctx, call{op: op + path, method: method, path: versionPath(path, version, more)}, nil)
}

// SealStatus implements Client.
func (c *client) SealStatus(ctx context.Context) (SealStatus, error) {
	var out SealStatus
	err := c.do(ctx, call{op: "seal status", method: http.MethodGet, path: "/seal-status", open: true}, &out)
	return out, err
}

// SealingKey implements Client.
func (c *client) SealingKey(ctx context.Context) (SealingKey, error) {
	var out SealingKey
	err := c.do(ctx, call{op: "sealing key", method: http.MethodGet, path: "/sealing-key", open: true}, &out)
	return out, err
}

// Unseal implements Client.
func (c *client) Unseal(ctx context.Context, share string) (SealStatus, error) {
	return send[SealStatus](ctx, c, "unseal", http.MethodPost, "/unseal", map[string]string{"share": share})
}

// Seal implements Client.
func (c *client) Seal(ctx context.Context) error {
	return c.do(ctx, call{op: "seal", method: http.MethodPost, path: "/seal"}, nil)
}

// Rewrap implements Client.
func (c *client) Rewrap(ctx context.Context) error {
	return c.do(ctx, call{op: "re-wrap", method: http.MethodPost, path: "/rewrap"}, nil)
}

// RotateKey implements Client.
func (c *client) RotateKey(ctx context.Context) error {
	return c.do(ctx, call{op: "rotate the root key", method: http.MethodPost, path: "/keys/rotate"}, nil)
}
