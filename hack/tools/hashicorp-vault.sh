#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the HashiCorp Vault server (BUSL: it is run by benches, never linked, never shipped) into .local/bin.
# Its go.mod replaces its own api and sdk modules by folders that the module does not hold, so `go install` refuses it: it
# is built in a copy without these lines. The sdk that is published differs a little: in two functions that no bench calls.
# The build without plug-ins for other systems has what a bench needs.
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
sed -i '/) activateDeduplication(/s/logical.Request)/logical.Request, _ string)/' vault/identity_store_util.go
sed -i 's/ActivationFunc(ctx, nil)/ActivationFunc(ctx, nil, "")/' vault/logical_system_activation_flags.go
sed -i 's/, err := b.lm.RestorePolicy/, err := keyName, b.lm.RestorePolicy/' builtin/logical/transit/path_restore.go
# One package at a time: this takes long, and others work on these cores.
CGO_ENABLED=0 nice go build -mod=mod -p 1 -tags minimal -trimpath -o "$root/.local/bin/hashicorp-vault" .
