-- +goose Up
-- The last failure of the letter when the verb was pressed: the letter forgets it when it fails again.
ALTER TABLE dead_letter_audit ADD COLUMN failed_at {{timestamp}};
ALTER TABLE dead_letter_audit ADD COLUMN error TEXT NOT NULL DEFAULT '';
ALTER TABLE dead_letter_audit ADD COLUMN retries INTEGER NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE dead_letter_audit DROP COLUMN retries;
ALTER TABLE dead_letter_audit DROP COLUMN error;
ALTER TABLE dead_letter_audit DROP COLUMN failed_at;
