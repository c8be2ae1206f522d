#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the MinIO server (AGPL: it is run by tests, never linked) into .local/bin.
set -eu
version=v0.0.0-20260212201848-7aac2a2c5b7c
root=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "$root/.local/bin"
cd / # outside of this module
GOBIN="$root/.local/bin" GOFLAGS=-buildvcs=false exec go install "github.com/minio/minio@$version"
