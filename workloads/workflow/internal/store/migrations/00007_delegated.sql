-- SPDX-License-Identifier: Apache-2.0
-- +goose Up

-- The operators of json refuse a text that holds the letter U+0000, which details may: what is delegated is told by how the
-- detail begins.
DROP INDEX steps_delegated;
CREATE INDEX steps_delegated ON steps (run, step, item) WHERE phase = 'Waiting' AND resumable AND starts_with(detail::text, '{"delegate":');
