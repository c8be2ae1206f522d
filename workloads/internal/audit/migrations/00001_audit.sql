-- SPDX-License-Identifier: Apache-2.0

-- +goose Up
-- One chain per schema. The text of event is what the hash covers: never jsonb, which would rewrite it.
CREATE TABLE audit_events (
    seq         bigint      PRIMARY KEY,
    time        timestamptz NOT NULL,
    user_name   text        NOT NULL,
    action      text        NOT NULL,
    object      text        NOT NULL,
    event       text        NOT NULL,
    prev        bytea       NOT NULL,
    hash        bytea       NOT NULL
);
CREATE INDEX audit_events_user ON audit_events (user_name, seq);
CREATE INDEX audit_events_object ON audit_events (object text_pattern_ops, seq);
CREATE INDEX audit_events_time ON audit_events USING brin (time);

-- head is where the chain ends; its row lock is what all replicas take in turn. anchor is the newest event that
-- retention has deleted. Both are signed.
CREATE TABLE audit_marks (
    kind        text        PRIMARY KEY CHECK (kind IN ('head', 'anchor')),
    seq         bigint      NOT NULL,
    hash        bytea       NOT NULL,
    time        timestamptz NOT NULL,
    key_id      text        NOT NULL,
    signature   bytea       NOT NULL
);

-- A signed head of the past: who rewrites the chain cannot sign it again.
CREATE TABLE audit_checkpoints (
    seq         bigint      PRIMARY KEY,
    hash        bytea       NOT NULL,
    time        timestamptz NOT NULL,
    key_id      text        NOT NULL,
    signature   bytea       NOT NULL
);

-- How far each replica's spool has been taken over, in the transaction of the events: no gap, no duplicate.
CREATE TABLE audit_spools (
    id          text        PRIMARY KEY,
    position    bigint      NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now()
);

-- +goose Down
DROP TABLE audit_spools, audit_checkpoints, audit_marks, audit_events;
