-- +goose Up
-- The books of a payment provider that plays the outside. Nothing else reads or writes them.
CREATE TABLE sandbox_charges (
    key              TEXT PRIMARY KEY,
    method           TEXT NOT NULL,
    amount           BIGINT NOT NULL CHECK (amount >= 0),
    currency         TEXT NOT NULL,
    state            TEXT NOT NULL CHECK (state IN ('open', 'charged', 'declined', 'refunded', 'called_off')),
    attempts         INTEGER NOT NULL,
    code             TEXT NOT NULL,
    reference        TEXT NOT NULL,
    refund_reference TEXT NOT NULL,
    updated_at       {{timestamp}} NOT NULL
);

-- +goose Down
DROP TABLE sandbox_charges;
