-- +goose Up
CREATE TABLE sums (id TEXT PRIMARY KEY, total BIGINT NOT NULL);

-- +goose Down
DROP TABLE sums;
