// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"errors"
	"fmt"
	"strings"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/internal/backend/clickhouse"
	"github.com/itechsmart/operator/internal/backend/kafka"
	"github.com/itechsmart/operator/test/kube"
)

// state returns everything in the namespace and in the backends, without what differs between cells.
func (c *cell) state() map[string]string {
	c.t.Helper()
	out, err := kube.State(c.ctx, world.Client, c.namespace, c.prefix, "PREFIX")
	if err != nil {
		c.t.Fatal(err)
	}
	for name, text := range c.backends() {
		out[strings.ReplaceAll(name, c.prefix, "PREFIX")] = strings.ReplaceAll(text, c.prefix, "PREFIX")
	}
	return out
}

// backends returns the cell's topics and tables.
func (c *cell) backends() map[string]string {
	c.t.Helper()
	out := map[string]string{}
	broker, err := kafka.New(servers.Kafka(c.t))
	if err != nil {
		c.t.Fatal(err)
	}
	defer broker.Close() //nolint:errcheck // nothing was written
	topics, err := broker.Topics(c.ctx, []string{c.prefix + "-in", c.prefix + "-foreign", c.prefix + "-dead"})
	if err != nil {
		c.t.Fatal(err)
	}
	for name, topic := range topics {
		out["topic "+name] = fmt.Sprintf("%+v", topic)
	}
	store, err := clickhouse.New(servers.ClickHouse(c.t))
	if err != nil {
		c.t.Fatal(err)
	}
	defer store.Close() //nolint:errcheck // nothing was written
	for _, name := range []string{c.prefix + "_out", c.prefix + "_foreign"} {
		table, err := store.Table(c.ctx, database, name)
		switch {
		case errors.Is(err, backend.ErrNotFound):
		case err != nil:
			c.t.Fatal(err)
		default:
			out["table "+name] = fmt.Sprintf("%+v", table)
		}
	}
	return out
}
