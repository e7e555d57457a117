-- +goose Up
-- One row an order: the primary key is what keeps an order from being paid twice here, the checks are what keeps more
-- from going back than came in, whatever the code above them does.
CREATE TABLE payments (
    order_id         TEXT PRIMARY KEY,
    customer_id      TEXT NOT NULL,
    payment_id       TEXT NOT NULL UNIQUE,
    state            TEXT NOT NULL CHECK (state IN ('charged', 'declined', 'refunded', 'voided')),
    amount           BIGINT NOT NULL CHECK (amount >= 0),
    currency         TEXT NOT NULL,
    refunded         BIGINT NOT NULL CHECK (refunded >= 0 AND refunded <= amount),
    reference        TEXT NOT NULL,
    refund_reference TEXT NOT NULL,
    failure_code     TEXT NOT NULL,
    failure_detail   TEXT NOT NULL,
    created_at       {{timestamp}} NOT NULL,
    updated_at       {{timestamp}} NOT NULL,
    CHECK (state = 'refunded' OR refunded = 0),
    CHECK (state <> 'voided' OR amount = 0),
    CHECK (state <> 'charged' OR reference <> ''),
    CHECK (state <> 'declined' OR failure_code <> '')
);

-- +goose Down
DROP TABLE payments;
