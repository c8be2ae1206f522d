#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs schemathesis, which tries services by their OpenAPI documents, into .local/schemathesis.
set -eu
tools=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$tools/../../.local"
local=$(cd "$tools/../../.local" && pwd -P)
python3 -m venv --clear "$local/schemathesis"
"$local/schemathesis/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --requirement "$tools/schemathesis.txt"
"$local/schemathesis/bin/python" -m pip check >/dev/null
