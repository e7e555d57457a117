-- +goose Up
-- A row is written by the transaction that does the request's effect, so it stands for an answer that was given.
CREATE TABLE idempotency_keys (
    client      TEXT NOT NULL,
    request_key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    status      INTEGER NOT NULL,
    headers     TEXT NOT NULL,
    body        {{bytes}} NOT NULL,
    created_at  {{timestamp}} NOT NULL,
    expires_at  {{timestamp}} NOT NULL,
    PRIMARY KEY (client, request_key)
);

CREATE INDEX idempotency_keys_by_expiry ON idempotency_keys (expires_at);

-- +goose Down
DROP TABLE idempotency_keys;
