-- SPDX-License-Identifier: Apache-2.0
-- +goose Up

-- What runs execute: a run keeps the definition that it began with. Values that users give are json, not jsonb: nothing here
-- looks into them, and what comes out is what went in.
CREATE TABLE definitions (
    workflow   text NOT NULL,
    hash       text NOT NULL,
    generation bigint NOT NULL,                -- the newest that has this content
    spec       json NOT NULL,
    created    timestamptz NOT NULL,
    PRIMARY KEY (workflow, hash)
);

CREATE TABLE runs (
    id              uuid PRIMARY KEY,          -- version 7: in the order of their creation
    workflow        text NOT NULL,
    generation      bigint NOT NULL,
    hash            text NOT NULL,
    phase           text NOT NULL CHECK (phase IN ('Queued', 'Running', 'Waiting', 'Succeeded', 'Failed', 'Cancelled', 'TimedOut')),
    stage           text NOT NULL,             -- Main, Failing or Handlers
    outcome         text NOT NULL DEFAULT '',  -- the phase that it ends with, once that is decided
    state           bytea NOT NULL,            -- the phase of each step, a byte each: what comes next is decided from this row alone
    loops           json,                      -- the counts of each forEach that has begun, by step
    seq             bigint NOT NULL,           -- of its newest event
    inputs          json NOT NULL,
    trigger         json NOT NULL,
    idempotency_key text,
    concurrency_key text,                      -- NULL: bound by nothing
    concurrency_max integer,
    timeout_ms      bigint NOT NULL,
    attempt         integer NOT NULL,          -- 1, one more for each re-run
    rerun_of        uuid,
    rerun_from      text,
    created         timestamptz NOT NULL,
    started         timestamptz,
    finished        timestamptz,
    deadline        timestamptz,               -- NULL while it is queued and when it ended
    error           text NOT NULL DEFAULT ''
) WITH (fillfactor = 70);                      -- room for a new version of the row on its page
CREATE UNIQUE INDEX runs_idempotency ON runs (workflow, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX runs_workflow ON runs (workflow, id);
CREATE INDEX runs_deadline ON runs (deadline) WHERE deadline IS NOT NULL;
CREATE INDEX runs_concurrency ON runs (workflow, concurrency_key, id) WHERE concurrency_key IS NOT NULL AND finished IS NULL;
CREATE INDEX runs_finished ON runs (workflow, finished) WHERE finished IS NOT NULL;

-- A step has a row from when it is ready. Item -1 is the step; with forEach each item has a row of its own.
CREATE TABLE steps (
    run      uuid NOT NULL,
    step     integer NOT NULL,
    item     integer NOT NULL,
    name     text NOT NULL,
    phase    text NOT NULL CHECK (phase IN ('Pending', 'Ready', 'Running', 'Waiting', 'Succeeded', 'Failed', 'Skipped', 'Cancelled')),
    attempt  integer NOT NULL,
    claims   integer NOT NULL,                 -- how often this attempt was begun
    owner    text NOT NULL DEFAULT '',         -- the claim that may record the outcome; it stays when that is recorded
    due      timestamptz,                      -- when to look: Ready is dispatched again, the lease of Running is over, Waiting wakes
    resumable boolean NOT NULL DEFAULT false,  -- Waiting: somebody may resume it
    input    json,                             -- the item
    output   json,
    outputs  json,
    detail   json,                             -- what it waits for
    resume   json,                             -- how the wait ended
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
    step    text NOT NULL,                     -- empty: of the run
    item    integer NOT NULL,
    attempt integer NOT NULL,
    detail  text NOT NULL,
    PRIMARY KEY (run, seq)
);

-- What is committed and not yet in the queue.
CREATE TABLE outbox (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    body    text NOT NULL,
    created timestamptz NOT NULL
);
