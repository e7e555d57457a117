// Package store keeps notifications and their deliveries in the notification service's database.
//
// It promises one notification for each order and kind, and numbers 1, 2, 3 without a gap for each customer, in the
// order of the commits. It forgets what is older than its retention.
package store

import (
	"context"
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

// customer has the last number that one was given. Its row's lock is what makes a customer's numbers contiguous and their
// order that of the commits.
type customer struct {
	id   string
	last int64
}

var customers = &database.Table[customer]{
	Name: "customers",
	Fields: []database.Field[customer]{
		database.Text("customer_id", func(c customer) string { return c.id }),
		database.Int("last_number", func(c customer) int64 { return c.last }),
	},
	Scan: func(row database.Scanner) (c customer, err error) { return c, row.Scan(&c.id, &c.last) },
}

// notification is a row: when it was written is of no interest to who reads it.
type notification struct {
	rules.Notification
	created time.Time
}

var notifications = &database.Table[notification]{
	Name: "notifications",
	Fields: []database.Field[notification]{
		database.Text("id", func(n notification) string { return n.ID }),
		database.Text("customer_id", func(n notification) string { return n.CustomerID }),
		database.Int("number", func(n notification) int64 { return n.Number }),
		database.Text("order_id", func(n notification) string { return n.OrderID }),
		database.Int("order_version", func(n notification) int64 { return n.OrderVersion }),
		database.Text("kind", func(n notification) string { return n.Kind }),
		database.Text("title", func(n notification) string { return n.Title }),
		database.Text("text", func(n notification) string { return n.Text }),
		database.Time("happened_at", func(n notification) time.Time { return n.At }),
		database.Time("created_at", func(n notification) time.Time { return n.created }),
	},
	Scan: func(row database.Scanner) (n notification, err error) {
		err = row.Scan(&n.ID, &n.CustomerID, &n.Number, &n.OrderID, &n.OrderVersion, &n.Kind, &n.Title, &n.Text, &n.At, &n.created)
		n.At = n.At.UTC()
		return n, err
	},
}

// Ahead reads and locks what Add asks for, in three statements: Add then needs none. Customers come first, and a new one gets
// its row at once: two processes at one customer, or at one transition twice, wait for each other here, and the second
// finds what the first has written.
func Ahead(ctx context.Context, tx *database.Tx, list ...rules.Notification) error {
	owners := make([]customer, len(list))
	var ids []string
	for i, n := range list {
		owners[i].id = n.CustomerID
		ids = append(ids, n.ID)
		if n.OrderVersion == 0 {
			ids = append(ids, rules.IDs(n.OrderID)...)
		}
	}
	if err := customers.Ensure(ctx, tx, owners...); err != nil {
		return err
	}
	return notifications.Ahead(ctx, tx, ids...)
}

// Add writes n before the commit, and returns it with the customer's next number; false when the order's transition has its
// notification already.
func Add(ctx context.Context, tx *database.Tx, n rules.Notification, at time.Time) (rules.Notification, bool, error) {
	if err := Ahead(ctx, tx, n); err != nil {
		return n, false, err
	}
	_, known, err := notifications.Load(ctx, tx, n.ID)
	if err != nil || known {
		return n, false, err
	}
	if n.OrderVersion == 0 {
		// The event names no version: it speaks of the order as far as it is known here.
		n.OrderVersion = 1
		for _, id := range rules.IDs(n.OrderID) {
			other, there, err := notifications.Load(ctx, tx, id)
			if err != nil {
				return n, false, err
			}
			if there {
				n.OrderVersion = max(n.OrderVersion, other.OrderVersion)
			}
		}
	}
	c, _, err := customers.Load(ctx, tx, n.CustomerID)
	if err != nil {
		return n, false, err
	}
	c.last++
	n.Number = c.last
	customers.Put(tx, c)
	notifications.Put(tx, notification{n, at})
	return n, true, nil
}

// List returns up to limit of the customer's notifications, the newest first, with numbers below before; 0 begins with
// the newest.
func List(ctx context.Context, db *database.DB, customer string, before int64, limit int) ([]rules.Notification, error) {
	rows, err := notifications.List(ctx, db, `SELECT `+notifications.Columns()+` FROM notifications
		WHERE customer_id = $1 AND (CAST($2 AS BIGINT) = 0 OR number < $2) ORDER BY number DESC LIMIT $3`, customer, before, limit)
	return plain(rows), err
}

// Outstanding returns up to limit notifications whose delivery on channel has been waiting, untouched, since before
// the given instant, and marks them as touched.
func Outstanding(ctx context.Context, tx *database.Tx, channel string, before, now time.Time, limit int) ([]rules.Notification, error) {
	rows, err := notifications.List(ctx, tx, `SELECT `+notifications.Columns()+` FROM notifications WHERE id IN
		(SELECT notification_id FROM deliveries WHERE channel = $1 AND state = 'waiting' AND updated_at < $2 LIMIT $3)
		ORDER BY created_at, id`+tx.ForUpdate(), channel, before.UTC(), limit)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	ids := make([]string, len(rows))
	for i, n := range rows {
		ids[i] = n.ID
	}
	in, args := tx.Dialect().In(ids)
	n := len(args)
	_, err = tx.ExecContext(ctx, `UPDATE deliveries SET updated_at = `+database.List(n+1, 1)+`
		WHERE channel = `+database.List(n+2, 1)+` AND notification_id `+in, append(args, now.UTC(), channel)...)
	if err != nil {
		return nil, fmt.Errorf("touch deliveries: %w", database.Classify(err))
	}
	return plain(rows), nil
}

func plain(rows []notification) []rules.Notification {
	list := make([]rules.Notification, len(rows))
	for i, row := range rows {
		list[i] = row.Notification
	}
	return list
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
