#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the HashiCorp Vault server (BUSL: it is run by benches, never linked, never shipped) into .local/bin.
# Its go.mod replaces its own api and sdk modules by folders that the module does not hold, so `go install` refuses it: it
# is built in a copy without these lines.
set -eu
version=v1.21.4
root=$(cd "$(dirname "$0")/../.." && pwd)
export GOFLAGS=-buildvcs=false
mkdir -p "$root/.local/bin"
cd / # outside of this module
module=$(go mod download -json "github.com/hashicorp/vault@$version" | sed -n 's/.*"Dir": "\(.*\)",.*/\1/p')
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r "$module/." "$copy"
chmod -R u+w "$copy"
cd "$copy"
sed -i '/=> \.\//d' go.mod
# One package at a time: this takes long, and others work on these cores.
CGO_ENABLED=0 nice go build -mod=mod -p 1 -trimpath -o "$root/.local/bin/hashicorp-vault" .
