-- SPDX-License-Identifier: Apache-2.0
-- +goose Up

-- The definitions of runs: a run keeps the definition that it started with. User values are json, not jsonb: no query here
-- reads into them, and they are returned unchanged.
CREATE TABLE definitions (
    workflow   text NOT NULL,
    hash       text NOT NULL,
    generation bigint NOT NULL,                -- the newest with this content
    spec       json NOT NULL,
    created    timestamptz NOT NULL,
    PRIMARY KEY (workflow, hash)
);

CREATE TABLE runs (
    id              uuid PRIMARY KEY,          -- version 7: ordered by creation
    workflow        text NOT NULL,
    generation      bigint NOT NULL,
    hash            text NOT NULL,
    phase           text NOT NULL CHECK (phase IN ('Queued', 'Running', 'Waiting', 'Succeeded', 'Failed', 'Cancelled', 'TimedOut')),
    stage           text NOT NULL,             -- Main, Failing or Handlers
    outcome         text NOT NULL DEFAULT '',  -- the final phase, once it is decided
    state           bytea NOT NULL,            -- a byte per step with its phase: the next steps are decided from this row alone
    loops           json,                      -- the counts of each started forEach, by step
    seq             bigint NOT NULL,           -- the number of the newest event
    inputs          json NOT NULL,
    trigger         json NOT NULL,
    idempotency_key text,
    concurrency_key text,                      -- NULL: no limit
    concurrency_max integer,
    timeout_ms      bigint NOT NULL,
    attempt         integer NOT NULL,          -- 1, one more for each re-run
    rerun_of        uuid,
    rerun_from      text,
    created         timestamptz NOT NULL,
    started         timestamptz,
    finished        timestamptz,
    deadline        timestamptz,               -- NULL while the run is queued and after it has ended
    error           text NOT NULL DEFAULT ''
) WITH (fillfactor = 70);                      -- room for a new version of the row on its page
CREATE UNIQUE INDEX runs_idempotency ON runs (workflow, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX runs_workflow ON runs (workflow, id);
CREATE INDEX runs_deadline ON runs (deadline) WHERE deadline IS NOT NULL;
CREATE INDEX runs_concurrency ON runs (workflow, concurrency_key, id) WHERE concurrency_key IS NOT NULL AND finished IS NULL;
CREATE INDEX runs_finished ON runs (workflow, finished) WHERE finished IS NOT NULL;

-- A step has a row once it is ready. Item -1 is the step; with forEach each item also has a row.
CREATE TABLE steps (
    run      uuid NOT NULL,
    step     integer NOT NULL,
    item     integer NOT NULL,
    name     text NOT NULL,
    phase    text NOT NULL CHECK (phase IN ('Pending', 'Ready', 'Running', 'Waiting', 'Succeeded', 'Failed', 'Skipped', 'Cancelled')),
    attempt  integer NOT NULL,
    claims   integer NOT NULL,                 -- how often this attempt was claimed
    owner    text NOT NULL DEFAULT '',         -- the claim that may record the outcome; it stays afterwards
    due      timestamptz,                      -- when Ready is dispatched again, the lease of Running expires, Waiting continues
    resumable boolean NOT NULL DEFAULT false,  -- Waiting: the step may be resumed
    input    json,                             -- the item
    output   json,
    outputs  json,
    detail   json,                             -- what it waits for
    resume   json,                             -- the result of the wait
    error    text NOT NULL DEFAULT '',
    started  timestamptz,                      -- of the attempt
    finished timestamptz,
    PRIMARY KEY (run, step, item)
) WITH (fillfactor = 80);
CREATE INDEX steps_due ON steps (due) WHERE due IS NOT NULL;

CREATE TABLE events (
    run     uuid NOT NULL,
    seq     bigint NOT NULL,
    at      timestamptz NOT NULL,
    kind    text NOT NULL,
    step    text NOT NULL,                     -- empty for an event of the run
    item    integer NOT NULL,
    attempt integer NOT NULL,
    detail  text NOT NULL,
    PRIMARY KEY (run, seq)
);

-- Committed messages that are not in the queue yet.
CREATE TABLE outbox (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    body    text NOT NULL,
    created timestamptz NOT NULL
);
