-- +goose Up
-- Numbers are made before the row is written. Those that were given out stay: SBX and ten digits of the serial.
ALTER TABLE sandbox_parcels ADD COLUMN tracking_number TEXT NOT NULL DEFAULT '';
UPDATE sandbox_parcels SET tracking_number =
    'SBX' || SUBSTR('0000000000' || CAST(serial AS TEXT), LENGTH(CAST(serial AS TEXT)) + 1);
CREATE UNIQUE INDEX sandbox_parcels_tracking_number ON sandbox_parcels (tracking_number) WHERE tracking_number <> '';

-- +goose Down
DROP INDEX sandbox_parcels_tracking_number;
ALTER TABLE sandbox_parcels DROP COLUMN tracking_number;
