-- SPDX-License-Identifier: Apache-2.0
-- +goose Up

-- An index-only scan counts the runs of all workflows by phase.
CREATE INDEX runs_phase ON runs (workflow, phase);
