-- +goose Up
-- state is the whole saga; the columns beside it are copies to search by.
CREATE TABLE sagas (
    id                 TEXT PRIMARY KEY,
    definition         TEXT NOT NULL,
    definition_version INTEGER NOT NULL,
    version            BIGINT NOT NULL,
    status             TEXT NOT NULL
        CHECK (status IN ('running', 'compensating', 'completed', 'compensated', 'compensation_failed')),
    step               TEXT NOT NULL, -- whose answer is awaited; empty when the saga has ended
    state              TEXT NOT NULL,
    next_deadline      {{timestamp}},
    created_at         {{timestamp}} NOT NULL,
    updated_at         {{timestamp}} NOT NULL
);

CREATE INDEX sagas_by_deadline ON sagas (next_deadline, id) WHERE next_deadline IS NOT NULL;
CREATE INDEX sagas_by_status ON sagas (status, created_at, id);

-- +goose Down
DROP TABLE sagas;
