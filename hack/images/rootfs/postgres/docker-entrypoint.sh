#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# docker-entrypoint.sh postgres [OPTION…]: the contract of the official image, for any user id.
# On the first start it makes a database cluster from POSTGRES_USER (postgres), POSTGRES_PASSWORD
# or POSTGRES_PASSWORD_FILE, POSTGRES_DB (as the user), POSTGRES_INITDB_ARGS and
# POSTGRES_HOST_AUTH_METHOD (scram-sha-256). Scripts of initialisation are not run.
set -eu

# file_env NAME sets NAME from the file that NAME_FILE names.
file_env() {
  eval "value=\${$1:-} file=\${$1_FILE:-}"
  if [ -n "$value" ] && [ -n "$file" ]; then
    echo "error: both $1 and $1_FILE are set, but they exclude each other" >&2
    exit 1
  fi
  if [ -n "$file" ]; then
    value=$(cat "$file")
  fi
  export "$1=$value"
  unset "$1_FILE"
}

# The cluster is made beside PGDATA and moved as the last step, so that an interrupted start
# leaves no half of one: PGDATA has a PG_VERSION only when all is done.
init_cluster() {
  file_env POSTGRES_PASSWORD
  file_env POSTGRES_USER
  file_env POSTGRES_DB
  user=${POSTGRES_USER:-postgres}
  database=${POSTGRES_DB:-$user}
  method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
  if [ -z "$POSTGRES_PASSWORD" ] && [ "$method" != trust ]; then
    echo "error: the cluster is not initialised and no superuser password is given: set POSTGRES_PASSWORD" >&2
    exit 1
  fi
  new="$PGDATA/.init"
  rm -rf "$new"
  # Files that an interrupted move has left behind.
  if [ -e "$PGDATA/.moving" ]; then
    echo "An earlier initialisation was interrupted; beginning anew."
    find "$PGDATA" -mindepth 1 -maxdepth 1 ! -name .moving -exec rm -rf {} +
  elif [ -n "$(ls -A "$PGDATA" | grep -v '^lost+found$' || true)" ]; then
    echo "error: PGDATA ($PGDATA) holds files but no database cluster" >&2
    exit 1
  fi
  mkdir -m 700 "$new"
  : >"$PGDATA/.moving"
  # shellcheck disable=SC2086
  if [ -n "$POSTGRES_PASSWORD" ]; then
    # By a pipe, so that the password is in no file.
    initdb --username="$user" --pwfile=/dev/fd/3 --auth-local=trust --auth-host="$method" -D "$new" ${POSTGRES_INITDB_ARGS:-} 3<<END || fail
$POSTGRES_PASSWORD
END
  else
    initdb --username="$user" --auth=trust -D "$new" ${POSTGRES_INITDB_ARGS:-} || fail
  fi
  printf '\nhost all all all %s\n' "$method" >>"$new/pg_hba.conf"
  printf "\nlisten_addresses = '*'\n" >>"$new/postgresql.conf"
  if [ "$database" != postgres ]; then
    # Single-user mode needs no server, no port and no socket.
    quoted=$(printf '%s' "$database" | sed 's/"/""/g')
    printf 'CREATE DATABASE "%s"\n' "$quoted" | postgres --single -j -D "$new" -c exit_on_error=on postgres >/dev/null || fail
  fi
  sync -f "$PGDATA"
  for entry in "$new"/* "$new"/.[!.]*; do
    case ${entry##*/} in PG_VERSION | '.[!.]*') continue ;; esac
    mv "$entry" "$PGDATA/"
  done
  sync -f "$PGDATA"
  mv "$new/PG_VERSION" "$PGDATA/"
  sync -f "$PGDATA"
  echo "PostgreSQL init process complete; ready for start up."
}

fail() {
  echo "error: the cluster could not be made; the next start begins anew" >&2
  exit 1
}

# PostgreSQL wants a name for its user id; one that no file knows gets it from a library.
name_user() {
  wrapper=/usr/lib/x86_64-linux-gnu/libnss_wrapper.so
  if getent passwd "$(id -u)" >/dev/null || [ ! -e $wrapper ]; then
    return
  fi
  NSS_WRAPPER_PASSWD=$(mktemp) NSS_WRAPPER_GROUP=$(mktemp)
  echo "postgres:x:$(id -u):$(id -g):PostgreSQL:$PGDATA:/bin/sh" >"$NSS_WRAPPER_PASSWD"
  echo "postgres:x:$(id -g):" >"$NSS_WRAPPER_GROUP"
  export NSS_WRAPPER_PASSWD NSS_WRAPPER_GROUP LD_PRELOAD=$wrapper
}

case ${1:-postgres} in -*) set -- postgres "$@" ;; esac
[ $# -gt 0 ] || set -- postgres
if [ "$1" = postgres ]; then
  : "${PGDATA:=/var/lib/postgresql/data}"
  export PGDATA
  if [ "$(id -u)" = 0 ]; then
    echo "error: PostgreSQL does not run as root; choose another user id" >&2
    exit 1
  fi
  mkdir -p "$PGDATA"
  if [ "$(stat -c %u "$PGDATA")" != "$(id -u)" ]; then
    echo "error: PGDATA ($PGDATA) belongs to another user; set PGDATA to a folder within the mounted volume" >&2
    exit 1
  fi
  chmod 700 "$PGDATA"
  name_user
  [ -s "$PGDATA/PG_VERSION" ] || init_cluster
  rm -rf "$PGDATA/.init" "$PGDATA/.moving"
  unset POSTGRES_PASSWORD
fi
exec "$@"
