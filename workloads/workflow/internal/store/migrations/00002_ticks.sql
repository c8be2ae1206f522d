-- SPDX-License-Identifier: Apache-2.0
-- +goose Up

-- Ticks of cron lines that are done: their runs were started. The newest of a trigger is where the scheduler goes on.
CREATE TABLE ticks (
    workflow text NOT NULL,
    trigger  text NOT NULL,
    at       timestamptz NOT NULL,
    PRIMARY KEY (workflow, trigger, at)
);
