-- SPDX-License-Identifier: Apache-2.0
-- +goose Up

-- Steps that wait for the service to do something for them. Only these are in the index, and phase and resumable change with
-- due, which is indexed anyway.
CREATE INDEX steps_delegated ON steps (run, step, item) WHERE phase = 'Waiting' AND resumable AND detail ->> 'delegate' IS NOT NULL;

-- What the service began for such a step, so that it is looked after once, and ended when the step waits no more.
CREATE TABLE delegations (
    run     uuid NOT NULL,
    step    integer NOT NULL,
    item    integer NOT NULL,
    attempt integer NOT NULL,
    kind    text NOT NULL,
    target  text NOT NULL,                     -- the id of the run, or the name of the Job
    begun   boolean NOT NULL DEFAULT false,    -- it was there; before it may be there or not
    PRIMARY KEY (run, step, item, attempt)
);
