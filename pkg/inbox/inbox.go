package inbox

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/orderflow/orderflow/pkg/database"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations creates the table inbox: db.Migrate(ctx, "inbox", inbox.Migrations).
var Migrations = database.Folder(files)

// Mark writes that consumer handles the messages with these ids in tx, and returns those that it had not handled
// before. It is one statement for up to database.MaxRows ids.
func Mark(ctx context.Context, tx *database.Tx, consumer string, at time.Time, ids ...string) (map[string]bool, error) {
	// Always in one order, so that two transactions that mark the same ids wait for each other and never in a circle.
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	fresh := make(map[string]bool, len(ids))
	for chunk := range slices.Chunk(ids, database.MaxRows) {
		if err := mark(ctx, tx, consumer, at, chunk, fresh); err != nil {
			return nil, fmt.Errorf("mark in inbox of %s: %w", consumer, database.Classify(err))
		}
	}
	return fresh, nil
}

func mark(ctx context.Context, tx *database.Tx, consumer string, at time.Time, ids []string, fresh map[string]bool) (err error) {
	values, args := tx.Dialect().Columns(database.Texts(slices.Repeat([]string{consumer}, len(ids))), database.Texts(ids),
		database.Times(slices.Repeat([]time.Time{at.UTC()}, len(ids))))
	rows, err := tx.QueryContext(ctx, `INSERT INTO inbox (consumer, message_id, handled_at) `+values+`
		ON CONFLICT (consumer, message_id) DO NOTHING RETURNING message_id`, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return err
		}
		fresh[id] = true
	}
	return rows.Err()
}

// Unmark takes back what Mark wrote in the same transaction, and nothing else may be given to it: the effects of these
// messages were undone, the transaction goes on.
func Unmark(ctx context.Context, tx *database.Tx, consumer string, ids ...string) error {
	for chunk := range slices.Chunk(ids, database.MaxRows) {
		_, err := tx.ExecContext(ctx, `DELETE FROM inbox WHERE consumer = $1 AND message_id IN (`+database.List(2, len(chunk))+`)`,
			database.Args([]any{consumer}, chunk...)...)
		if err != nil {
			return fmt.Errorf("take marks back from inbox of %s: %w", consumer, database.Classify(err))
		}
	}
	return nil
}

// Seen tells whether consumer has handled the message, as last committed. It saves work that Mark would find done; it
// decides nothing, because another transaction may be about to commit.
func Seen(ctx context.Context, db *database.DB, consumer, id string) (bool, error) {
	var one int
	err := db.QueryRowContext(ctx, `SELECT 1 FROM inbox WHERE consumer = $1 AND message_id = $2`, consumer, id).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look in inbox of %s: %w", consumer, database.Classify(err))
	}
	return true, nil
}

// Foreign returns a consumer other than the one named that has handled messages in this database, or empty.
func Foreign(ctx context.Context, db *database.DB, consumer string) (string, error) {
	var other string
	err := db.QueryRowContext(ctx, `SELECT consumer FROM inbox WHERE consumer <> $1 LIMIT 1`, consumer).Scan(&other)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("look in inbox for others than %s: %w", consumer, database.Classify(err))
	}
	return other, nil
}

// Purge forgets the messages that were handled at the given instant or before, and returns how many. It deletes at most
// limit in a transaction, until none are left; see database.DB.Purge.
func Purge(ctx context.Context, db *database.DB, upTo time.Time, limit int) (int, error) {
	return db.Purge(ctx, "inbox", "handled_at", upTo, limit)
}
