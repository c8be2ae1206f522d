-- SPDX-License-Identifier: Apache-2.0
-- +goose Up

-- Since when a cron line is valid: earlier ticks do not count. A replica with an older view of the Workflow changes nothing.
CREATE TABLE trigger_lines (
    workflow   text NOT NULL,
    trigger    text NOT NULL,
    uid        text NOT NULL,                  -- of the Workflow, as created and generation
    created    timestamptz NOT NULL,
    generation bigint NOT NULL,
    line       text NOT NULL,
    suspended  boolean NOT NULL,
    since      timestamptz NOT NULL,
    PRIMARY KEY (workflow, trigger)
);

-- How far a Kubernetes kind was watched for a trigger: all events up to this version have started their runs.
CREATE TABLE trigger_cursors (
    workflow text NOT NULL,
    trigger  text NOT NULL,
    uid      text NOT NULL,
    kind     text NOT NULL,
    version  bigint NOT NULL,
    seen     timestamptz NOT NULL,             -- when that was
    PRIMARY KEY (workflow, trigger)
);
