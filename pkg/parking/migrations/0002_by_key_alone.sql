-- +goose Up
CREATE INDEX parked_by_key_alone ON parked (consumer, record_key);

-- +goose Down
DROP INDEX parked_by_key_alone;
