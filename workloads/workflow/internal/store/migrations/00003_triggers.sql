-- SPDX-License-Identifier: Apache-2.0
-- +goose Up

-- What came at triggers. Replicas add to it; a crash may lose the last second.
CREATE TABLE triggers (
    workflow text NOT NULL,
    trigger  text NOT NULL,
    fired    timestamptz,                      -- when it last started a run
    rejected bigint NOT NULL DEFAULT 0,        -- what started nothing
    PRIMARY KEY (workflow, trigger)
);
