-- +goose Up
-- The checks are what keeps stock from being oversold, whatever the code above them does.
CREATE TABLE stock (
    sku       TEXT PRIMARY KEY,
    received  BIGINT NOT NULL,
    available BIGINT NOT NULL CHECK (available >= 0),
    reserved  BIGINT NOT NULL CHECK (reserved >= 0),
    shipped   BIGINT NOT NULL CHECK (shipped >= 0),
    CHECK (received = available + reserved + shipped)
);

INSERT INTO stock (sku, received, available, reserved, shipped) VALUES
    ('COFFEE-1KG', 10000, 10000, 0, 0),
    ('MUG-BLUE', 10000, 10000, 0, 0),
    ('TEAPOT-RED', 10000, 10000, 0, 0),
    ('KETTLE-STEEL', 10000, 10000, 0, 0),
    ('SPOON-SET', 10000, 10000, 0, 0),
    ('GRINDER-PRO', 10000, 10000, 0, 0),
    ('LAMP-LIMITED', 5, 5, 0, 0),
    ('GLOBE-RARE', 0, 0, 0, 0);

CREATE TABLE reservations (
    order_id   TEXT PRIMARY KEY,
    state      TEXT NOT NULL CHECK (state IN ('reserved', 'rejected', 'released', 'shipped')),
    lines      TEXT NOT NULL,
    shortages  TEXT NOT NULL,
    created_at {{timestamp}} NOT NULL,
    updated_at {{timestamp}} NOT NULL
);

-- +goose Down
DROP TABLE reservations;
DROP TABLE stock;
