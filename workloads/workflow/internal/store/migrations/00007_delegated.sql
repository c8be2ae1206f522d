-- SPDX-License-Identifier: Apache-2.0
-- +goose Up

-- JSON operators reject texts with U+0000, which details may contain: a delegated step is recognized by how its
-- detail begins.
DROP INDEX steps_delegated;
CREATE INDEX steps_delegated ON steps (run, step, item) WHERE phase = 'Waiting' AND resumable AND starts_with(detail::text, '{"delegate":');
