#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# docker-entrypoint.sh [rabbitmq-server]: the contract of the official image, without root.
# RABBITMQ_ERLANG_COOKIE becomes the cookie file of the user, which the tools read as well.
set -eu

if [ -n "${RABBITMQ_ERLANG_COOKIE:-}" ]; then
  cookie="$HOME/.erlang.cookie"
  if [ -e "$cookie" ] && [ "$(cat "$cookie")" != "$RABBITMQ_ERLANG_COOKIE" ]; then
    echo "the cookie in $cookie is not RABBITMQ_ERLANG_COOKIE; writing it anew" >&2
    rm -f "$cookie"
  fi
  if [ ! -e "$cookie" ]; then
    (umask 177 && printf '%s' "$RABBITMQ_ERLANG_COOKIE" >"$cookie")
  fi
fi
# The server reads the file; the variable is deprecated there.
unset RABBITMQ_ERLANG_COOKIE
[ $# -gt 0 ] || set -- rabbitmq-server
exec "$@"
