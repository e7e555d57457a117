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
// before.
func Mark(ctx context.Context, tx *database.Tx, consumer string, at time.Time, ids ...string) (map[string]bool, error) {
	fresh, err := MarkLater(ctx, tx, consumer, at, ids...)
	if err == nil {
		err = tx.Wait(ctx)
	}
	return fresh, err
}

// MarkLater is Mark whose answer is there once tx.Wait has returned: it goes to the database with what is asked next. It
// is one statement for as many ids as the database takes.
func MarkLater(ctx context.Context, tx *database.Tx, consumer string, at time.Time, ids ...string) (map[string]bool, error) {
	// Always in one order, so that two transactions that mark the same ids wait for each other and never in a circle.
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	fresh := make(map[string]bool, len(ids))
	for chunk := range slices.Chunk(ids, tx.Dialect().Batch()) {
		values, args := tx.Dialect().Columns(database.Texts(slices.Repeat([]string{consumer}, len(chunk))), database.Texts(chunk),
			database.Times(slices.Repeat([]time.Time{at.UTC()}, len(chunk))))
		err := tx.Later(ctx, database.Statement{
			Query: `INSERT INTO inbox (consumer, message_id, handled_at) ` + values + `
				ON CONFLICT (consumer, message_id) DO NOTHING RETURNING message_id`, Args: args,
			Row: func(row database.Scanner) error {
				var id string
				err := row.Scan(&id)
				fresh[id] = true
				return err
			},
			Failed: func(err error) error {
				return fmt.Errorf("mark in inbox of %s: %w", consumer, database.Classify(err))
			},
		})
		if err != nil {
			return nil, err
		}
	}
	return fresh, nil
}

// among is true for the marks that pairs names.
const among = `(consumer, message_id) IN (SELECT consumer, message_id FROM asked)`

// pairs is the beginning of a statement about a consumer's marks of these ids. They are pairs because for one consumer and a
// list of ids PostgreSQL makes a plan while the table is small, and keeps it for a while as that grows, which reads all that
// the consumer has ever marked. By pairs each is looked up by itself.
func pairs(d database.Dialect, consumer string, ids []string) (with string, args []any) {
	values, args := d.Columns(database.Texts(slices.Repeat([]string{consumer}, len(ids))), database.Texts(ids))
	return `WITH asked (consumer, message_id) AS (` + values + `) `, args
}

// Unmark takes back what Mark wrote in the same transaction, and nothing else may be given to it: the effects of these
// messages were undone, the transaction goes on.
func Unmark(ctx context.Context, tx *database.Tx, consumer string, ids ...string) error {
	for chunk := range slices.Chunk(ids, tx.Dialect().Batch()) {
		asked, args := pairs(tx.Dialect(), consumer, chunk)
		_, err := tx.ExecContext(ctx, asked+`DELETE FROM inbox WHERE `+among, args...)
		if err != nil {
			return fmt.Errorf("take marks back from inbox of %s: %w", consumer, database.Classify(err))
		}
	}
	return nil
}

// Seen returns those of the messages that consumer has handled, as last committed, in one statement for as
// many ids as the database takes. It saves work that Mark would find done; it decides nothing, because another transaction may be
// about to commit.
func Seen(ctx context.Context, db *database.DB, consumer string, ids ...string) (map[string]bool, error) {
	seen := make(map[string]bool, len(ids))
	for chunk := range slices.Chunk(ids, db.Dialect().Batch()) {
		asked, args := pairs(db.Dialect(), consumer, chunk)
		rows, err := db.QueryContext(ctx, asked+`SELECT message_id FROM inbox WHERE `+among, args...)
		if err == nil {
			err = collect(rows, seen)
		}
		if err != nil {
			return nil, fmt.Errorf("look in inbox of %s: %w", consumer, database.Classify(err))
		}
	}
	return seen, nil
}

// collect reads rows of one id each.
func collect(rows *sql.Rows, into map[string]bool) (err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return err
		}
		into[id] = true
	}
	return rows.Err()
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
	return db.Purge(ctx, "inbox", "handled_at", "", upTo, limit)
}
