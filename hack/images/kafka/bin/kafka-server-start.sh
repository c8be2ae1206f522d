#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Starts a broker or controller: kafka-server-start.sh SERVER.PROPERTIES [--override key=value…].
# It logs to standard output only, so that a read-only root file system does.
set -eu

bin=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
export KAFKA_HEAP_OPTS="${KAFKA_HEAP_OPTS:--Xmx1G -Xms1G}"
export KAFKA_LOG4J_OPTS="${KAFKA_LOG4J_OPTS:--Dlog4j2.configurationFile=$bin/../config/log4j2.xml}"
exec "$bin/kafka-run-class.sh" kafka.Kafka "$@"
