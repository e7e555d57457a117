-- +goose Up
CREATE TABLE orders (
    id          TEXT PRIMARY KEY,
    customer_id TEXT NOT NULL,
    state       TEXT NOT NULL,
    version     BIGINT NOT NULL,
    seen        INTEGER NOT NULL,
    total       BIGINT NOT NULL,
    currency    TEXT NOT NULL
);

CREATE TABLE orders_by_state (
    state  TEXT PRIMARY KEY,
    orders BIGINT NOT NULL
);

CREATE TABLE revenue (
    currency TEXT PRIMARY KEY,
    amount   BIGINT NOT NULL,
    orders   BIGINT NOT NULL
);

CREATE TABLE minutes (
    minute    {{timestamp}} PRIMARY KEY,
    created   BIGINT NOT NULL,
    confirmed BIGINT NOT NULL,
    cancelled BIGINT NOT NULL
);

CREATE TABLE customers (
    customer_id TEXT NOT NULL,
    currency    TEXT NOT NULL,
    orders      BIGINT NOT NULL,
    confirmed   BIGINT NOT NULL,
    cancelled   BIGINT NOT NULL,
    spent       BIGINT NOT NULL,
    PRIMARY KEY (customer_id, currency)
);

-- +goose Down
DROP TABLE customers;
DROP TABLE minutes;
DROP TABLE revenue;
DROP TABLE orders_by_state;
DROP TABLE orders;
