-- SPDX-License-Identifier: Apache-2.0
-- +goose Up

-- Generations of the root key. The key itself is never stored: it is derived from the passphrase and the salt.
CREATE TABLE root_keys (
    id          text PRIMARY KEY,
    generation  bigint NOT NULL UNIQUE,
    salt        bytea NOT NULL,
    iterations  integer NOT NULL,
    check_value bytea NOT NULL,                 -- tells a wrong passphrase
    shares      integer NOT NULL DEFAULT 0,     -- 0: a passphrase
    threshold   integer NOT NULL DEFAULT 0,
    previous    bytea,                          -- the generation before, wrapped by this one, as long as anything needs it
    next        bytea,                          -- the generation after, wrapped by this one: replicas learn it
    active      boolean NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX root_keys_active ON root_keys (active) WHERE active;

-- Keys of 32 bytes, each wrapped by its namespace's key under one generation of the root key. That a row names its root
-- key makes a re-wrap resumable, and the reference keeps a root key from being removed while it is needed.
CREATE TABLE data_keys (
    id          uuid PRIMARY KEY,
    namespace   text NOT NULL,
    purpose     text NOT NULL CHECK (purpose IN ('secret', 'mac', 'sealing')),
    subject     text NOT NULL,                  -- the secret's path, the sealing key's id
    root_key_id text NOT NULL REFERENCES root_keys (id),
    wrapped     bytea NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX data_keys_root ON data_keys (root_key_id, id);
CREATE INDEX data_keys_subject ON data_keys (namespace, purpose, subject);
CREATE UNIQUE INDEX data_keys_mac ON data_keys (namespace) WHERE purpose = 'mac';

CREATE TABLE sealing_keys (
    namespace   text NOT NULL,
    id          text NOT NULL,
    public_key  bytea NOT NULL,
    data_key_id uuid NOT NULL REFERENCES data_keys (id), -- the private key
    active      boolean NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (namespace, id)
);
CREATE UNIQUE INDEX sealing_keys_active ON sealing_keys (namespace) WHERE active;

CREATE TABLE secrets (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    namespace   text NOT NULL,
    path        text COLLATE "C" NOT NULL,
    type        text NOT NULL,
    version     bigint NOT NULL,                -- the newest
    data_key_id uuid NOT NULL REFERENCES data_keys (id), -- of new versions
    source_hash text NOT NULL DEFAULT '',       -- of the last declaration that was applied
    rotation    text NOT NULL DEFAULT '',       -- the last rotation token
    recipe      jsonb,                          -- how the value is generated or issued; null: it is not
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (namespace, path)
) WITH (fillfactor = 80);                       -- a new version updates the row in place
CREATE INDEX secrets_data_key ON secrets (data_key_id);

CREATE TABLE versions (
    secret_id    bigint NOT NULL REFERENCES secrets (id),
    version      bigint NOT NULL CHECK (version > 0),
    data_key_id  uuid,                          -- no reference: a data key goes only with its secret
    ciphertext   bytea,                         -- null: destroyed
    metadata     jsonb,
    created_at   timestamptz NOT NULL DEFAULT now(),
    created_by   text NOT NULL,
    expires_at   timestamptz,
    deleted_at   timestamptz,
    destroyed_at timestamptz,
    PRIMARY KEY (secret_id, version),
    CHECK ((ciphertext IS NULL) = (destroyed_at IS NOT NULL)),
    CHECK ((data_key_id IS NULL) = (destroyed_at IS NOT NULL))
);
ALTER TABLE versions ALTER COLUMN ciphertext SET STORAGE EXTERNAL; -- ciphertext does not compress

-- +goose Down
DROP TABLE versions, secrets, sealing_keys, data_keys, root_keys;
