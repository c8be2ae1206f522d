-- +goose Up
CREATE TABLE users (
    id            uuid PRIMARY KEY,
    email         text        NOT NULL CONSTRAINT users_email_key UNIQUE, -- lower case
    name          text        NOT NULL DEFAULT '',
    password_hash text        NOT NULL,
    grants        jsonb       NOT NULL DEFAULT '[]',
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    -- When grants changed: tokens signed before carry the old ones, and are looked up here.
    changed_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX users_changed_at ON users (changed_at);

-- A session is one login: the refresh tokens that follow one another, and the access tokens signed with them.
CREATE TABLE sessions (
    id         uuid PRIMARY KEY,
    user_id    uuid        NOT NULL REFERENCES users ON DELETE CASCADE,
    client_id  text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz
);
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_revoked_at ON sessions (revoked_at) WHERE revoked_at IS NOT NULL;
CREATE INDEX sessions_expires_at ON sessions (expires_at);

-- Tokens are random; only their hash is kept. A used one stays, so that its second use is noticed.
CREATE TABLE refresh_tokens (
    signature  text PRIMARY KEY,
    session_id uuid        NOT NULL REFERENCES sessions ON DELETE CASCADE,
    request    jsonb       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    used_at    timestamptz
);
CREATE INDEX refresh_tokens_session ON refresh_tokens (session_id);
CREATE INDEX refresh_tokens_expires_at ON refresh_tokens (expires_at);

CREATE TABLE authorization_codes (
    signature  text PRIMARY KEY,
    request    jsonb       NOT NULL,
    pkce       jsonb,
    expires_at timestamptz NOT NULL,
    used_at    timestamptz
);
CREATE INDEX authorization_codes_expires_at ON authorization_codes (expires_at);

-- By a hash of the address that was tried, whether or not a user has it.
CREATE TABLE login_failures (
    account      text PRIMARY KEY,
    failures     integer     NOT NULL,
    last_failure timestamptz NOT NULL,
    locked_until timestamptz NOT NULL
);
CREATE INDEX login_failures_last_failure ON login_failures (last_failure);

-- +goose Down
DROP TABLE login_failures, authorization_codes, refresh_tokens, sessions, users;
