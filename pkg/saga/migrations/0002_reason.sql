-- +goose Up
-- A copy of the state's reason, to search by. What goes well has none, and costs the index nothing.
ALTER TABLE sagas ADD COLUMN reason TEXT NOT NULL DEFAULT '';
UPDATE sagas SET reason = COALESCE(state{{json}} ->> 'reason', '') WHERE status NOT IN ('running', 'completed');
CREATE INDEX sagas_by_reason ON sagas (reason, created_at, id) WHERE reason <> '';

-- +goose Down
DROP INDEX sagas_by_reason;
ALTER TABLE sagas DROP COLUMN reason;
