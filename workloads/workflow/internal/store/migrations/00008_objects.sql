-- SPDX-License-Identifier: Apache-2.0
-- +goose Up

-- Folders in object storage that a run's rows may refer to, besides the one with the run's id: that of its trigger's body, and
-- for a re-run those of its origin, which may be pruned before it.
ALTER TABLE runs ADD COLUMN objects uuid[];
CREATE INDEX runs_objects ON runs USING gin (objects) WHERE objects IS NOT NULL;

-- The prefix of this database's objects: several databases may share one bucket.
CREATE TABLE owner (id uuid NOT NULL);
INSERT INTO owner VALUES (gen_random_uuid());
