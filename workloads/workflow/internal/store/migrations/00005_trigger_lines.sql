-- SPDX-License-Identifier: Apache-2.0
-- +goose Up

-- Since when a cron line holds: no tick before counts. Whoever has an older view of the Workflow changes nothing.
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

-- How far a kind of Kubernetes was watched for a trigger: what came up to this version has started its runs.
CREATE TABLE trigger_cursors (
    workflow text NOT NULL,
    trigger  text NOT NULL,
    uid      text NOT NULL,
    kind     text NOT NULL,
    version  bigint NOT NULL,
    seen     timestamptz NOT NULL,             -- when that was
    PRIMARY KEY (workflow, trigger)
);
