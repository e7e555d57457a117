// Package store keeps notifications and their deliveries in the notification service's database.
//
// It promises one notification for each order and kind, and numbers 1, 2, 3 without a gap for each customer, in the
// order of the commits. It forgets what is older than its retention.
package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/services/notification/internal/rules"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations makes the tables.
func Migrations() fs.FS { return database.Folder(files) }

// Add writes n and returns it with the customer's next number; false when the order's transition has its notification
// already.
func Add(ctx context.Context, tx *database.Tx, n rules.Notification, at time.Time) (rules.Notification, bool, error) {
	fail := func(err error) (rules.Notification, bool, error) {
		return n, false, fmt.Errorf("add notification %s: %w", n.ID, database.Classify(err))
	}
	var known int
	err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM notifications WHERE order_id = $1 AND kind = $2`, n.OrderID, n.Kind).Scan(&known)
	if err != nil || known > 0 {
		if err != nil {
			return fail(err)
		}
		return n, false, nil
	}
	if n.OrderVersion == 0 {
		// The event names no version: it speaks of the order as far as it is known here.
		err := tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(order_version), 1) FROM notifications WHERE order_id = $1`, n.OrderID).Scan(&n.OrderVersion)
		if err != nil {
			return fail(err)
		}
	}
	err = tx.QueryRowContext(ctx, `INSERT INTO customers (customer_id, last_number) VALUES ($1, 1)
		ON CONFLICT (customer_id) DO UPDATE SET last_number = customers.last_number + 1
		RETURNING last_number`, n.CustomerID).Scan(&n.Number)
	if err != nil {
		return fail(err)
	}
	// Two processes at one transition at once: the second breaks the unique constraint, tries again and finds it above.
	_, err = tx.ExecContext(ctx, `INSERT INTO notifications (`+columns+`, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		n.ID, n.CustomerID, n.Number, n.OrderID, n.OrderVersion, n.Kind, n.Title, n.Text, n.At.UTC(), at.UTC())
	if err != nil {
		return fail(err)
	}
	return n, true, nil
}

const columns = `id, customer_id, number, order_id, order_version, kind, title, text, happened_at`

// List returns up to limit of the customer's notifications, the newest first, with numbers below before; 0 begins with
// the newest.
func List(ctx context.Context, db *database.DB, customer string, before int64, limit int) ([]rules.Notification, error) {
	rows, err := db.QueryContext(ctx, `SELECT `+columns+` FROM notifications
		WHERE customer_id = $1 AND (CAST($2 AS BIGINT) = 0 OR number < $2) ORDER BY number DESC LIMIT $3`, customer, before, limit)
	return collect(rows, err)
}

// Outstanding returns up to limit notifications whose delivery on channel has been waiting, untouched, since before
// the given instant, and marks them as touched.
func Outstanding(ctx context.Context, tx *database.Tx, channel string, before, now time.Time, limit int) ([]rules.Notification, error) {
	rows, err := tx.QueryContext(ctx, `SELECT `+columns+` FROM notifications WHERE id IN
		(SELECT notification_id FROM deliveries WHERE channel = $1 AND state = 'waiting' AND updated_at < $2 LIMIT $3)
		ORDER BY created_at, id`+tx.ForUpdate(), channel, before.UTC(), limit)
	list, err := collect(rows, err)
	for _, n := range list {
		_, touched := tx.ExecContext(ctx, `UPDATE deliveries SET updated_at = $3 WHERE channel = $1 AND notification_id = $2`, channel, n.ID, now.UTC())
		err = errors.Join(err, database.Classify(touched))
	}
	return list, err
}

func collect(rows *sql.Rows, err error) (list []rules.Notification, _ error) {
	if err != nil {
		return nil, fmt.Errorf("list notifications: %w", database.Classify(err))
	}
	defer rows.Close()
	for rows.Next() {
		var n rules.Notification
		err := rows.Scan(&n.ID, &n.CustomerID, &n.Number, &n.OrderID, &n.OrderVersion, &n.Kind, &n.Title, &n.Text, &n.At)
		if err != nil {
			return nil, fmt.Errorf("list notifications: %w", database.Classify(err))
		}
		n.At = n.At.UTC()
		list = append(list, n)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list notifications: %w", database.Classify(err))
	}
	return list, nil
}

// Numbers answers the feed's question about a customer's numbers.
type Numbers struct {
	DB *database.DB
	// FeedTopic is the outbox topic of entries on their way to the feed.
	FeedTopic string
}

// Newest implements feed.Known of a customer. One statement, so that both answers are of one moment.
func (n Numbers) Newest(ctx context.Context, customer string) (newest int64, written bool, err error) {
	var waiting int
	err = n.DB.QueryRowContext(ctx, `SELECT
		COALESCE((SELECT last_number FROM customers WHERE customer_id = $1), 0),
		(SELECT COUNT(*) FROM outbox WHERE topic = $2 AND aggregateid = $1)`, customer, n.FeedTopic).Scan(&newest, &waiting)
	if err != nil {
		return 0, false, fmt.Errorf("newest notification of %s: %w", customer, database.Classify(err))
	}
	return newest, waiting == 0, nil
}

// State of a delivery.
type State string

// The states of a delivery.
const (
	Waiting   State = "waiting"
	Delivered State = "delivered"
	Failed    State = "failed"
)

// Delivery is what became of one notification on one channel.
type Delivery struct {
	Channel        string
	NotificationID string
	State          State
	// Attempts counts all that were made, those before a redrive too.
	Attempts  int
	LastError string
}

// GetDelivery returns a delivery; one that is not known is waiting, with no attempts.
func GetDelivery(ctx context.Context, db *database.DB, channel, id string) (Delivery, error) {
	d := Delivery{Channel: channel, NotificationID: id, State: Waiting}
	err := db.QueryRowContext(ctx, `SELECT state, attempts, last_error FROM deliveries WHERE channel = $1 AND notification_id = $2`,
		channel, id).Scan(&d.State, &d.Attempts, &d.LastError)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return d, fmt.Errorf("read delivery of %s: %w", id, database.Classify(err))
	}
	return d, nil
}

// PutDelivery writes a delivery. One that is delivered stays so.
func PutDelivery(ctx context.Context, tx *database.Tx, d Delivery, at time.Time) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO deliveries (channel, notification_id, state, attempts, last_error, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $6)
		ON CONFLICT (channel, notification_id) DO UPDATE SET state = excluded.state, attempts = excluded.attempts,
			last_error = excluded.last_error, updated_at = excluded.updated_at
		WHERE deliveries.state <> 'delivered'`,
		d.Channel, d.NotificationID, string(d.State), d.Attempts, d.LastError, at.UTC())
	if err != nil {
		return fmt.Errorf("write delivery of %s: %w", d.NotificationID, database.Classify(err))
	}
	return nil
}

// Totals are counts of what is kept.
type Totals struct {
	Notifications int64
	// Channels has, by channel and state, the deliveries.
	Channels map[string]map[State]int64
}

// Count returns the totals.
func Count(ctx context.Context, db *database.DB) (t Totals, err error) {
	t.Channels = map[string]map[State]int64{}
	if err := db.QueryRowContext(ctx, `SELECT COUNT(*) FROM notifications`).Scan(&t.Notifications); err != nil {
		return t, fmt.Errorf("count notifications: %w", database.Classify(err))
	}
	rows, err := db.QueryContext(ctx, `SELECT channel, state, COUNT(*) FROM deliveries GROUP BY channel, state`)
	if err != nil {
		return t, fmt.Errorf("count deliveries: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var channel string
		var state State
		var n int64
		if err := rows.Scan(&channel, &state, &n); err != nil {
			return t, fmt.Errorf("count deliveries: %w", database.Classify(err))
		}
		if t.Channels[channel] == nil {
			t.Channels[channel] = map[State]int64{}
		}
		t.Channels[channel][state] = n
	}
	return t, database.Classify(rows.Err())
}

// Purge removes up to limit notifications, and as many deliveries, that were made before the given instant, and
// returns whether there may be more. The customers' numbers stay: they must not begin again.
func Purge(ctx context.Context, db *database.DB, before time.Time, limit int) (more bool, err error) {
	err = db.InTx(ctx, func(ctx context.Context, tx *database.Tx) error {
		for _, statement := range []string{
			`DELETE FROM notifications WHERE id IN (SELECT id FROM notifications WHERE created_at < $1 ORDER BY created_at LIMIT $2)`,
			`DELETE FROM deliveries WHERE (channel, notification_id) IN
				(SELECT channel, notification_id FROM deliveries WHERE created_at < $1 ORDER BY created_at LIMIT $2)`,
		} {
			result, err := tx.ExecContext(ctx, statement, before.UTC(), limit)
			if err != nil {
				return err
			}
			n, err := result.RowsAffected()
			if err != nil {
				return err
			}
			more = more || n == int64(limit)
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("purge notifications: %w", err)
	}
	return more, nil
}
