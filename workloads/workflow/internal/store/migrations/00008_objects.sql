-- SPDX-License-Identifier: Apache-2.0
-- +goose Up

-- Folders of object storage that a run's rows may refer to, beside the one that has the run's id: of its trigger's body, and
-- for a re-run those of its origin, which may be pruned before it.
ALTER TABLE runs ADD COLUMN objects uuid[];
CREATE INDEX runs_objects ON runs USING gin (objects) WHERE objects IS NOT NULL;

-- Whose objects those are that begin with it: several databases may have one bucket.
CREATE TABLE owner (id uuid NOT NULL);
INSERT INTO owner VALUES (gen_random_uuid());
