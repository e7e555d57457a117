-- +goose Up
CREATE TABLE parked (
    consumer         TEXT NOT NULL,
    id               TEXT NOT NULL,
    topic            TEXT NOT NULL,
    record_partition BIGINT NOT NULL,
    record_offset    BIGINT NOT NULL,
    record_key       {{bytes}} NOT NULL,
    record_value     {{bytes}},
    record_time      {{timestamp}} NOT NULL,
    headers          {{bytes}} NOT NULL,
    attempts         BIGINT NOT NULL,
    due_at           {{timestamp}} NOT NULL,
    parked_at        {{timestamp}} NOT NULL,
    blocked_at       {{timestamp}},
    PRIMARY KEY (consumer, id)
);

CREATE INDEX parked_by_key ON parked (consumer, topic, record_partition, record_key, record_offset);
CREATE INDEX parked_blocked ON parked (consumer, record_key) WHERE blocked_at IS NOT NULL;

-- +goose Down
DROP TABLE parked;
