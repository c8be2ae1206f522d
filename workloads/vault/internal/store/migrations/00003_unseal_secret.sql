-- SPDX-License-Identifier: Apache-2.0
-- +goose Up

-- What stands for a passphrase when a key in an HSM unseals: random, and wrapped by that key.
CREATE TABLE unseal_secret (
    single     boolean PRIMARY KEY DEFAULT true CHECK (single), -- one row at most
    wrapped    bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- +goose Down
DROP TABLE unseal_secret;
