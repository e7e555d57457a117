package evidence

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/saga"
)

// Tables are what a service's database holds of messages.
type Tables struct {
	Outbox []Outgoing
	Parked []Parked
	Inbox  []Mark
}

// Outgoing is a message that was not sent yet (package outbox).
type Outgoing struct{ ID, Type, Topic, Key string }

// Parked is a message that waits in the database (package parking).
type Parked struct {
	// ID is its place, topic-partition-offset.
	ID, Consumer, Key string
	Attempts          int64
	// Blocked says that it waits for its dead letter.
	Blocked bool
}

// Mark says that a consumer handled a message (package inbox).
type Mark struct{ Consumer, MessageID string }

// ReadTables reads them.
func ReadTables(ctx context.Context, db *database.DB) (t Tables, err error) {
	t.Outbox, err = Rows(ctx, db, `SELECT id, type, topic, aggregateid FROM outbox ORDER BY seq`,
		func(row database.Scanner) (o Outgoing, err error) {
			return o, row.Scan(&o.ID, &o.Type, &o.Topic, &o.Key)
		})
	if err != nil {
		return t, err
	}
	t.Parked, err = Rows(ctx, db, `SELECT id, consumer, record_key, attempts, blocked_at FROM parked ORDER BY consumer, id`,
		func(row database.Scanner) (p Parked, err error) {
			var key []byte
			var blocked *time.Time
			err = row.Scan(&p.ID, &p.Consumer, &key, &p.Attempts, &blocked)
			p.Key, p.Blocked = string(key), blocked != nil
			return p, err
		})
	if err != nil {
		return t, err
	}
	t.Inbox, err = Rows(ctx, db, `SELECT consumer, message_id FROM inbox ORDER BY consumer, message_id`,
		func(row database.Scanner) (m Mark, err error) {
			return m, row.Scan(&m.Consumer, &m.MessageID)
		})
	return t, err
}

// Rows reads all rows of a query.
func Rows[R any](ctx context.Context, db *database.DB, query string, scan func(database.Scanner) (R, error)) (all []R, err error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", query, err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		r, err := scan(rows)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", query, err)
		}
		all = append(all, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", query, err)
	}
	return all, nil
}

// Waiting names every message that is in the outbox or parked.
func (t Tables) Waiting() (wrong []string) {
	for _, o := range t.Outbox {
		wrong = append(wrong, fmt.Sprintf("%s %s of %s has not left the outbox for %s", o.Type, o.ID, o.Key, o.Topic))
	}
	for _, p := range t.Parked {
		why := fmt.Sprintf("after %d attempts", p.Attempts)
		if p.Blocked {
			why = "until its dead letter is handled"
		}
		wrong = append(wrong, fmt.Sprintf("the message of %s at %s waits, parked by %s, %s", p.Key, p.ID, p.Consumer, why))
	}
	return wrong
}

// Saga is a row of the table sagas.
type Saga struct {
	saga.State
	// Column, Step and Deadline are the copies that are searched by: the status, whose answer is awaited, until when.
	Column   saga.Status
	Step     string
	Deadline time.Time
}

// ReadSagas reads the table of package saga.
func ReadSagas(ctx context.Context, db *database.DB) ([]Saga, error) {
	return Rows(ctx, db, `SELECT id, status, step, next_deadline, state FROM sagas ORDER BY id`,
		func(row database.Scanner) (s Saga, err error) {
			var id, state string
			var deadline *time.Time
			if err := row.Scan(&id, &s.Column, &s.Step, &deadline, &state); err != nil {
				return s, err
			}
			if deadline != nil {
				s.Deadline = deadline.UTC()
			}
			if err := json.Unmarshal([]byte(state), &s.State); err != nil {
				return s, fmt.Errorf("saga %s: %w", id, err)
			}
			if s.ID != id {
				return s, fmt.Errorf("saga %s says that it is %q", id, s.ID)
			}
			return s, nil
		})
}

// Unended names what keeps a saga from having ended as it should: its status, an answer that it waits for, a deadline that
// is left, copies that say something else than the state, and a journal that does not run from its start to one end.
func (s Saga) Unended() (wrong []string) {
	say := func(format string, args ...any) {
		wrong = append(wrong, fmt.Sprintf("saga %s ", s.ID)+fmt.Sprintf(format, args...))
	}
	switch {
	case s.Trouble != "":
		say("is %s: %s", s.Status, s.Trouble)
	case !s.Status.Terminal():
		say("is %s", s.Status)
	}
	if s.Column != s.Status {
		say("is %s, its column says %s", s.Status, s.Column)
	}
	if step, _ := s.Active(); cmp.Or(step.Name, s.Step) != "" {
		say("waits for %s", cmp.Or(step.Name, s.Step))
	}
	if deadline := cmp.Or(s.Deadline, s.NextDeadline()); !deadline.IsZero() {
		say("has a deadline left: %s", deadline)
	}
	ends := 0
	for i, e := range s.Journal {
		if (e.Kind == saga.EntryStarted) != (i == 0) {
			say("has %q as entry %d of its journal", e, i+1)
		}
		if e.Kind == saga.EntryFinished {
			ends++
			if e.Status != s.Status {
				say("is %s, its journal says %q", s.Status, e)
			}
		}
	}
	if ends != 1 && s.Status.Terminal() {
		say("has ended %d times in its journal", ends)
	}
	return wrong
}
