#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds Temporal's dev server (MIT: it is run by benches, never linked) into .local/bin: all services of Temporal, and SQLite,
# in one process. `temporal-server PORT FILE [KEY=INTEGER…]` is
# `temporal server start-dev --headless --port PORT --db-filename FILE [--dynamic-config-value KEY=INTEGER]…`.
# Temporal's command-line program needs a module that is published nowhere: its go.mod points at a folder that the module does
# not hold, so `go install` refuses it. The commands need it and the server does not, so the server is built alone, in a copy.
set -eu
version=v1.9.1
root=$(cd "$(dirname "$0")/../.." && pwd)
export GOFLAGS=-buildvcs=false
mkdir -p "$root/.local/bin"
cd / # outside of this module
module=$(go mod download -json "github.com/temporalio/cli@$version" | sed -n 's/.*"Dir": "\(.*\)",.*/\1/p')
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r "$module/." "$copy"
chmod -R u+w "$copy"
cd "$copy"
sed -i '/cliext/d' go.mod
mkdir cmd/temporal-server
# The options are those of internal/temporalcli/commands.server.go.
cat >cmd/temporal-server/main.go <<'END'
package main

import (
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/google/uuid"
	"github.com/temporalio/cli/internal/devserver"
)

func main() {
	const ip = "127.0.0.1"
	settings := map[string]any{
		"system.forceSearchAttributesCacheRefreshOnRead": true,
		"system.forceNexusEndpointRefreshOnRead":         true,
		"frontend.persistenceMaxQPS":                     10000,
		"history.persistenceMaxQPS":                      45000,
	}
	for _, setting := range os.Args[3:] {
		key, value, _ := strings.Cut(setting, "=")
		settings[key] = number(value)
	}
	server, err := devserver.Start(devserver.StartOptions{
		FrontendIP: ip, FrontendPort: number(os.Args[1]), Namespaces: []string{"default"}, DatabaseFile: os.Args[2],
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)), LogLevel: slog.LevelWarn,
		MetricsPort: devserver.MustGetFreePort(ip), ClusterID: uuid.NewString(),
		MasterClusterName: "active", CurrentClusterName: "active", InitialFailoverVersion: 1,
		DynamicConfigValues: settings,
	})
	if err != nil {
		panic(err)
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGINT, syscall.SIGTERM)
	<-ended
	server.Stop()
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		panic(err)
	}
	return n
}
END
# One package at a time: this takes long, and others work on these cores.
CGO_ENABLED=0 nice go build -p 1 -trimpath -o "$root/.local/bin/temporal-server" ./cmd/temporal-server
