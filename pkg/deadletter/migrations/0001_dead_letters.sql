-- +goose Up
CREATE TABLE dead_letters (
    id                 TEXT PRIMARY KEY,
    consumer_group     TEXT NOT NULL,
    original_topic     TEXT NOT NULL,
    original_partition INTEGER NOT NULL,
    original_offset    BIGINT NOT NULL,
    original_timestamp {{timestamp}} NOT NULL,
    record_key         {{bytes}},
    record_value       {{bytes}},
    headers            TEXT NOT NULL,
    event_id           TEXT NOT NULL,
    event_type         TEXT NOT NULL,
    error_type         TEXT NOT NULL,
    error_message      TEXT NOT NULL,
    retries            INTEGER NOT NULL,
    failures           INTEGER NOT NULL,
    failed_at          {{timestamp}} NOT NULL,
    state              TEXT NOT NULL CHECK (state IN ('waiting', 'redriving', 'redriven', 'discarded')),
    updated_at         {{timestamp}} NOT NULL,
    actor              TEXT NOT NULL DEFAULT '',
    reason             TEXT NOT NULL DEFAULT ''
);

CREATE INDEX dead_letters_by_state ON dead_letters (state, id);

-- +goose Down
DROP TABLE dead_letters;
