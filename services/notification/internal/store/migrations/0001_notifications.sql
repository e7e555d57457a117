-- +goose Up
-- The last number given to each customer. Its row's lock is what makes a customer's numbers contiguous and their order
-- that of the commits.
CREATE TABLE customers (
    customer_id TEXT PRIMARY KEY,
    last_number BIGINT NOT NULL
);

CREATE TABLE notifications (
    id            TEXT PRIMARY KEY,
    customer_id   TEXT NOT NULL,
    number        BIGINT NOT NULL,
    order_id      TEXT NOT NULL,
    order_version BIGINT NOT NULL,
    kind          TEXT NOT NULL,
    title         TEXT NOT NULL,
    text          TEXT NOT NULL,
    happened_at   {{timestamp}} NOT NULL,
    created_at    {{timestamp}} NOT NULL,
    UNIQUE (order_id, kind),
    UNIQUE (customer_id, number)
);

CREATE INDEX notifications_by_age ON notifications (created_at);

CREATE TABLE deliveries (
    channel         TEXT NOT NULL,
    notification_id TEXT NOT NULL,
    state           TEXT NOT NULL CHECK (state IN ('waiting', 'delivered', 'failed')),
    attempts        INTEGER NOT NULL,
    last_error      TEXT NOT NULL DEFAULT '',
    created_at      {{timestamp}} NOT NULL,
    updated_at      {{timestamp}} NOT NULL,
    PRIMARY KEY (channel, notification_id)
);

CREATE INDEX deliveries_by_state ON deliveries (channel, state);
CREATE INDEX deliveries_by_age ON deliveries (created_at);

-- +goose Down
DROP TABLE deliveries;
DROP TABLE notifications;
DROP TABLE customers;
