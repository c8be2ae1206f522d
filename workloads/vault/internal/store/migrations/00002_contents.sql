-- SPDX-License-Identifier: Apache-2.0
-- +goose Up

-- A File over 1 MiB: the version's ciphertext is a manifest, which names the content and says how large it is.
ALTER TABLE versions
    ADD COLUMN content_id uuid,                 -- as the manifest says, for who removes the parts; null: the ciphertext is the value
    ADD COLUMN size       bigint;               -- bytes of the content

-- Its parts, each sealed for its place. They are written and removed in the transaction of their version.
CREATE TABLE chunks (
    content_id uuid NOT NULL,
    number     bigint NOT NULL CHECK (number >= 0),
    ciphertext bytea NOT NULL,
    PRIMARY KEY (content_id, number)
);
ALTER TABLE chunks ALTER COLUMN ciphertext SET STORAGE EXTERNAL;

-- +goose Down
DROP TABLE chunks;
ALTER TABLE versions DROP COLUMN size, DROP COLUMN content_id;
