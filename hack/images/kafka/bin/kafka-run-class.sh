#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs one class of the Kafka distribution: kafka-run-class.sh CLASS [ARGUMENT…].
# Honours the variables of the official image: KAFKA_HEAP_OPTS, KAFKA_OPTS, KAFKA_JMX_OPTS,
# KAFKA_JVM_PERFORMANCE_OPTS, KAFKA_LOG4J_OPTS, LOG_DIR, JAVA_HOME, CLASSPATH.
set -eu

base=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
java=${JAVA_HOME:+$JAVA_HOME/bin/}java
: "${LOG_DIR:=/tmp/kafka-logs}"
: "${KAFKA_HEAP_OPTS:=-Xmx256M}"
: "${KAFKA_OPTS:=}"
: "${KAFKA_JMX_OPTS:=}"
: "${KAFKA_JVM_PERFORMANCE_OPTS:=-server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35 -XX:+ExplicitGCInvokesConcurrent -Djava.awt.headless=true}"
: "${KAFKA_LOG4J_OPTS:=-Dlog4j2.configurationFile=$base/config/tools-log4j2.xml}"

# The options are lists of words on purpose.
# shellcheck disable=SC2086
exec "$java" $KAFKA_HEAP_OPTS $KAFKA_JVM_PERFORMANCE_OPTS $KAFKA_JMX_OPTS \
  -Dkafka.logs.dir="$LOG_DIR" $KAFKA_LOG4J_OPTS \
  -cp "$base/libs/*${CLASSPATH:+:$CLASSPATH}" $KAFKA_OPTS "$@"
