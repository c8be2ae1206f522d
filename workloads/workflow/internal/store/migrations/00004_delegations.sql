-- SPDX-License-Identifier: Apache-2.0
-- +goose Up

-- Steps that wait for work of the service. Only these are in the index, and phase and resumable change with
-- due, which is indexed anyway.
CREATE INDEX steps_delegated ON steps (run, step, item) WHERE phase = 'Waiting' AND resumable AND detail ->> 'delegate' IS NOT NULL;

-- The work of the service for such a step, so that it is created once, and stopped when the step no longer waits.
CREATE TABLE delegations (
    run     uuid NOT NULL,
    step    integer NOT NULL,
    item    integer NOT NULL,
    attempt integer NOT NULL,
    kind    text NOT NULL,
    target  text NOT NULL,                     -- the id of the run, or the name of the Job
    begun   boolean NOT NULL DEFAULT false,    -- the target has existed; otherwise it may or may not exist
    PRIMARY KEY (run, step, item, attempt)
);
