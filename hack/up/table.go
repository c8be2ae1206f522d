// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/itechsmart/operator/internal/backend"
)

// tableReader counts a table's rows over ClickHouse's HTTP interface.
type tableReader struct {
	client  *http.Client
	binding backend.Binding
	table   string
}

func newTableReader(binding backend.Binding, table string) *tableReader {
	return &tableReader{client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}}, binding: binding, table: table}
}

func (t *tableReader) close() { t.client.CloseIdleConnections() }

func (t *tableReader) count(ctx context.Context) (int64, error) {
	// A Service's address is on this machine: the environment's proxy does not apply.
	address := url.URL{Scheme: "http", Host: t.binding.Address(), Path: "/", RawQuery: url.Values{"query": {"SELECT count() FROM " + t.table}}.Encode()}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return 0, err
	}
	request.Header.Set("X-ClickHouse-User", t.binding.Username)
	request.Header.Set("X-ClickHouse-Key", t.binding.Password)
	response, err := t.client.Do(request)
	if err != nil {
		return 0, fmt.Errorf("count %s: %w", t.table, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	if err != nil {
		return 0, fmt.Errorf("count %s: %w", t.table, err)
	}
	text := strings.TrimSpace(string(body))
	if response.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("count %s: %s: %s", t.table, response.Status, cut(text, 300))
	}
	rows, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("count %s: %w", t.table, err)
	}
	return rows, nil
}
