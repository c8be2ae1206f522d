-- SPDX-License-Identifier: Apache-2.0
-- +goose Up

-- Runs are counted by phase, for all workflows at once, from this index alone.
CREATE INDEX runs_phase ON runs (workflow, phase);
