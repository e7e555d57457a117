package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/orderflow/orderflow/pkg/database"
)

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

// PutDelivery writes a delivery before the commit. One that is delivered stays so.
func PutDelivery(tx *database.Tx, d Delivery, at time.Time) {
	put := database.PutOffBy(tx, deliveriesKey{}, func() *deliveries { return &deliveries{map[of]written{}} })
	if key := (of{d.Channel, d.NotificationID}); put.rows[key].State != Delivered {
		put.rows[key] = written{d, at}
	}
}

// deliveries are what a transaction writes.
type deliveries struct{ rows map[of]written }

type deliveriesKey struct{}

type of struct{ channel, notification string }

type written struct {
	Delivery
	at time.Time
}

// Flush implements database.PutOff. It writes all of them in one statement, in the order of their keys, so that two
// transactions never wait in a circle.
func (p *deliveries) Flush(ctx context.Context, tx *database.Tx) error {
	keys := slices.SortedFunc(maps.Keys(p.rows), func(a, b of) int {
		return cmp.Or(strings.Compare(a.channel, b.channel), strings.Compare(a.notification, b.notification))
	})
	for chunk := range slices.Chunk(keys, database.MaxRows) {
		column := func(value func(w written) string) database.Column {
			values := make([]string, len(chunk))
			for i, key := range chunk {
				values[i] = value(p.rows[key])
			}
			return database.Texts(values)
		}
		attempts, at := make([]int64, len(chunk)), make([]time.Time, len(chunk))
		for i, key := range chunk {
			attempts[i], at[i] = int64(p.rows[key].Attempts), p.rows[key].at.UTC()
		}
		values, args := tx.Dialect().Columns(
			column(func(w written) string { return w.Channel }), column(func(w written) string { return w.NotificationID }),
			column(func(w written) string { return string(w.State) }), database.Ints(attempts),
			column(func(w written) string { return w.LastError }), database.Times(at), database.Times(at),
		)
		err := tx.Later(ctx, database.Statement{Query: `INSERT INTO deliveries (channel, notification_id, state, attempts, last_error, created_at, updated_at) ` + values + `
			ON CONFLICT (channel, notification_id) DO UPDATE SET state = excluded.state, attempts = excluded.attempts,
				last_error = excluded.last_error, updated_at = excluded.updated_at
			WHERE deliveries.state <> 'delivered'`, Args: args, Failed: func(err error) error {
			return fmt.Errorf("write %d deliveries: %w", len(chunk), database.Classify(err))
		}})
		if err != nil {
			return err
		}
	}
	clear(p.rows)
	return nil
}
