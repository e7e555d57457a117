-- +goose Up
CREATE TABLE inbox (
    consumer   TEXT NOT NULL,
    message_id TEXT NOT NULL,
    handled_at {{timestamp}} NOT NULL,
    PRIMARY KEY (consumer, message_id)
);

CREATE INDEX inbox_by_handled_at ON inbox (handled_at);

-- +goose Down
DROP TABLE inbox;
