-- +goose Up
-- The books of a carrier that plays the outside. Nothing else reads or writes them.
CREATE TABLE sandbox_parcels (
    serial      {{identity}},
    key         TEXT NOT NULL UNIQUE,
    fingerprint TEXT NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('open', 'arranged', 'refused', 'cancelled', 'called_off')),
    attempts    INTEGER NOT NULL,
    code        TEXT NOT NULL,
    updated_at  {{timestamp}} NOT NULL
);

-- +goose Down
DROP TABLE sandbox_parcels;
