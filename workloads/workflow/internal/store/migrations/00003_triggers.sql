-- SPDX-License-Identifier: Apache-2.0
-- +goose Up

-- Statistics of triggers. Replicas add to them; a crash may lose the last second.
CREATE TABLE triggers (
    workflow text NOT NULL,
    trigger  text NOT NULL,
    fired    timestamptz,                      -- when it last started a run
    rejected bigint NOT NULL DEFAULT 0,        -- events that started no run
    PRIMARY KEY (workflow, trigger)
);
