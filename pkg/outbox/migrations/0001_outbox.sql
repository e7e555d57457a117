-- +goose Up
-- The columns id, aggregatetype, aggregateid, type and payload are those of Debezium's Outbox Event Router, so that
-- change capture can read what the relay sends. Rows are deleted once they are sent: the table is as long as the wait.
CREATE TABLE outbox (
    seq           {{identity}},
    id            TEXT NOT NULL,
    aggregatetype TEXT NOT NULL,
    aggregateid   TEXT NOT NULL,
    type          TEXT NOT NULL,
    topic         TEXT NOT NULL,
    headers       TEXT NOT NULL,
    payload       TEXT NOT NULL,
    created_at    {{timestamp}} NOT NULL
);

-- Who may send. A fence is a lease's number: it grows with every change of hands.
CREATE TABLE outbox_lease (
    name  TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    fence BIGINT NOT NULL,
    until {{timestamp}} NOT NULL
);

-- +goose Down
DROP TABLE outbox_lease;
DROP TABLE outbox;
