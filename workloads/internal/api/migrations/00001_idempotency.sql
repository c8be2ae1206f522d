-- SPDX-License-Identifier: Apache-2.0

-- +goose Up
-- What was answered to a POST with an Idempotency-Key. id is an HMAC of who sent it and of the key, fingerprint one of
-- the request; answer is encrypted, and null while the request is under way under the claim.
CREATE TABLE api_idempotency (
    id          bytea       PRIMARY KEY,
    claim       text        NOT NULL,
    fingerprint bytea       NOT NULL,
    answer      bytea,
    expires_at  timestamptz NOT NULL
);
CREATE INDEX api_idempotency_expiry ON api_idempotency (expires_at);

-- +goose Down
DROP TABLE api_idempotency;
