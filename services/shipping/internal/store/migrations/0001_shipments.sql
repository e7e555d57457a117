-- +goose Up
-- One row an order: the primary key is what keeps an order from being shipped twice here, whatever the code above does.
CREATE TABLE shipments (
    order_id        TEXT PRIMARY KEY,
    customer_id     TEXT NOT NULL,
    shipment_id     TEXT NOT NULL UNIQUE,
    state           TEXT NOT NULL CHECK (state IN ('arranged', 'refused', 'cancelled', 'voided')),
    carrier         TEXT NOT NULL,
    tracking_number TEXT NOT NULL,
    failure_code    TEXT NOT NULL,
    failure_detail  TEXT NOT NULL,
    created_at      {{timestamp}} NOT NULL,
    updated_at      {{timestamp}} NOT NULL,
    CHECK ((state IN ('arranged', 'cancelled')) = (tracking_number <> '')),
    CHECK (state <> 'refused' OR failure_code <> '')
);

-- A carrier gives a number to one parcel.
CREATE UNIQUE INDEX shipments_tracking_number ON shipments (carrier, tracking_number) WHERE tracking_number <> '';

-- +goose Down
DROP TABLE shipments;
