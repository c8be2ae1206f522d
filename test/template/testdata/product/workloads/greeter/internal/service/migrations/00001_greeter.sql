-- +goose Up
CREATE TABLE greetings (at timestamptz NOT NULL, text text NOT NULL);
-- +goose Down
DROP TABLE greetings;
