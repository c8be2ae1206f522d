#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# docker-entrypoint.sh [redis-server] [FILE.conf] [OPTION…]: the contract of the official image.
set -eu

case ${1:-} in '' | -* | *.conf) set -- redis-server "$@" ;; esac
umask 077
exec "$@"
