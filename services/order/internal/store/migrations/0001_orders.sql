-- +goose Up
CREATE TABLE products (
    sku      TEXT PRIMARY KEY,
    name     TEXT NOT NULL,
    price    BIGINT NOT NULL CHECK (price > 0),
    currency TEXT NOT NULL CHECK (length(currency) = 3)
);

INSERT INTO products (sku, name, price, currency) VALUES
    ('COFFEE-1KG', 'Coffee beans, 1 kg', 1890, 'EUR'),
    ('MUG-BLUE', 'Blue mug', 1250, 'EUR'),
    ('TEAPOT-RED', 'Red teapot', 3490, 'EUR'),
    ('KETTLE-STEEL', 'Steel kettle', 5900, 'EUR'),
    ('SPOON-SET', 'Set of six spoons', 990, 'EUR'),
    ('GRINDER-PRO', 'Coffee grinder', 15900, 'EUR'),
    ('LAMP-LIMITED', 'Limited desk lamp', 12900, 'EUR'),
    ('GLOBE-RARE', 'Antique globe', 49900, 'EUR');

-- An order's id is time-ordered (UUIDv7), so that the indexes that list orders need no time of their own. Lines and
-- address never change after the order was placed and are never searched: one column each.
CREATE TABLE orders (
    id               TEXT PRIMARY KEY,
    customer_id      TEXT NOT NULL,
    state            TEXT NOT NULL CHECK (state IN ('pending', 'cancelling', 'confirmed', 'cancelled')),
    version          BIGINT NOT NULL CHECK (version > 0),
    currency         TEXT NOT NULL,
    total            BIGINT NOT NULL CHECK (total >= 0),
    lines            TEXT NOT NULL,
    shipping_address TEXT NOT NULL,
    payment_method   TEXT NOT NULL,
    failure_code     TEXT NOT NULL,
    failure_detail   TEXT NOT NULL,
    carrier          TEXT NOT NULL,
    tracking_number  TEXT NOT NULL,
    created_at       {{timestamp}} NOT NULL,
    updated_at       {{timestamp}} NOT NULL
);

CREATE INDEX orders_by_customer ON orders (customer_id, id);
CREATE INDEX orders_by_state ON orders (state, id);

-- +goose Down
DROP TABLE orders;
DROP TABLE products;
