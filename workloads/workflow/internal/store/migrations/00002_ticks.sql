-- SPDX-License-Identifier: Apache-2.0
-- +goose Up

-- Ticks of cron lines whose runs were started. The scheduler continues after the newest one of a trigger.
CREATE TABLE ticks (
    workflow text NOT NULL,
    trigger  text NOT NULL,
    at       timestamptz NOT NULL,
    PRIMARY KEY (workflow, trigger, at)
);
